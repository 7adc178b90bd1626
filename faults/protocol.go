package main

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctxlock/ctxlock/faults/history"
)

// A client is a process of its own, so that it can be stopped and killed, and what it leaves behind is its own. It talks with the lab by
// lines of JSON: what it writes to its standard output are notes, what it reads from its standard input are orders. That way never fails,
// whatever befalls the way to the servers. When its input ends, it ends.

// contract is the first line that a client reads.
type contract struct {
	Library string
	Client  int
	Place   Place
	Name    string // of the lock
	Workers int
	Seed    uint64
	// Unwinding is how long a worker goes on with its work once its caller's context was cancelled.
	Unwinding time.Duration
	// Beside is what it does beside.
	Beside []beside
}

// note is what a client says.
type note struct {
	What   noteKind
	Worker int
	Token  int64         // with reads and writes
	Write  history.Write // with writes
	Round  *history.Round
	Health health
	At     int64 // of what is held, over, and asked
	Error  string
}

type noteKind string

const (
	asks   noteKind = "asks"   // a round has begun
	blames noteKind = "blames" // a call did wrong
	ready  noteKind = "ready"  // it has connected, and waits for the order to start
	reads  noteKind = "reads"  // a question: what is the state?
	acts   noteKind = "acts"   // a question: it has seen that it is alive, and is about to write; may it?
	writes noteKind = "writes" // a question: is it written?
	rounds noteKind = "rounds" // a round has ended
	feels  noteKind = "feels"  // how it is
	held   noteKind = "held"   // it has got a lock of those that it was to hold
	over   noteKind = "over"   // that has ended by itself
	closed noteKind = "closed" // it has closed its locker
	failed noteKind = "failed" // it can't go on
)

// health is what a client knows of itself.
type health struct {
	Goroutines int // now
	Before     int // of them when it had not opened its locker yet
	Heap       uint64
	Busy       int // workers that have not ended their round, and what is done beside
}

// order is what the lab says. One with a Worker answers that worker's question.
type order struct {
	What   orderKind
	Worker int
	Read   history.Write // the state read, and the number of the element to write
	Work   time.Duration // how long to work on it
	Write  history.Write // what became of a write
	Locks  int           // to hold
}

type orderKind string

const (
	answer orderKind = "answer"
	start  orderKind = "start"
	hold   orderKind = "hold"   // take some locks, and say when you have them, and when they end
	cancel orderKind = "cancel" // end the contexts of all callers; who works, unwinds
	check  orderKind = "check"  // say how you are
	drain  orderKind = "drain"  // no further rounds; waits end
	leave  orderKind = "leave"  // close the locker
)

// monotonic reads the clock that all processes of the machine share.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it fails for unknown clocks only
	return t.Nano()
}
