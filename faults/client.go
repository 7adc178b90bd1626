package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// client is one process of a fleet.
type client struct {
	contract
	locker  Locker
	before  int
	orders  *json.Decoder
	workers []*worker
	aside   atomic.Int32 // of what is done beside the workers

	mu  sync.Mutex // for out
	out *json.Encoder
}

// clientMain is a client's whole life.
func clientMain() error {
	c := &client{before: runtime.NumGoroutine(), orders: json.NewDecoder(bufio.NewReader(os.Stdin)), out: json.NewEncoder(os.Stdout)}
	if err := c.orders.Decode(&c.contract); err != nil {
		return err
	}
	who, err := find(c.Library)
	if err != nil {
		return err
	}
	if c.locker, err = who.Open(c.Place); err != nil {
		c.say(note{What: failed, Error: err.Error()})
		return nil
	}
	for i := range c.Workers {
		c.workers = append(c.workers, &worker{
			client: c, number: i, answers: make(chan order, 1), random: rand.New(rand.NewPCG(c.Seed, uint64(i))),
		})
	}
	c.say(note{What: ready})
	return c.obey()
}

// obey ends with the lab.
func (c *client) obey() error {
	var work sync.WaitGroup
	var run context.Context
	stop := func() {}
	defer func() { stop() }()
	for {
		var o order
		if err := c.orders.Decode(&o); err != nil {
			return nil // the lab has gone
		}
		switch o.What {
		case answer:
			c.workers[o.Worker].answers <- o
		case hold:
			for i := range o.Locks {
				go c.hold(i)
			}
		case start:
			run, stop = c.newRun()
			for _, w := range c.workers {
				work.Go(func() { w.run(run) })
			}
			for i, b := range c.Beside {
				c.aside.Add(1)
				work.Go(func() {
					defer c.aside.Add(-1)
					c.beside(run, b, i)
				})
			}
		case cancel:
			for _, w := range c.workers {
				w.cancelCaller(false)
			}
		case check:
			c.say(note{What: feels, Health: c.health()})
		case drain:
			stop()
			for _, w := range c.workers {
				w.cancelCaller(true)
			}
		case leave:
			go c.leave(&work)
		default:
			return fmt.Errorf("unknown order %q", o.What)
		}
	}
}

// newRun is the context of workers between two orders, and what ends it.
func (c *client) newRun() (context.Context, func()) { return context.WithCancel(context.Background()) }

// settling is how long goroutines have to end after Close has returned. In a cluster, valkey-go and rueidis let one sleep for 5 s.
const settling = 6 * time.Second

// leave closes the locker and says what is left.
func (c *client) leave(work *sync.WaitGroup) {
	over := make(chan struct{})
	go func() {
		work.Wait()
		c.locker.Close()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(leaving):
		c.say(note{What: closed, Health: c.health(), Error: "workers or Close have not returned"})
		return
	}
	h := c.health()
	// Two are this goroutine and the one that reads orders, which was main's.
	for deadline := time.Now().Add(settling); h.Goroutines > h.Before+1 && time.Now().Before(deadline); h = c.health() {
		time.Sleep(10 * time.Millisecond)
	}
	h.Goroutines--
	if h.Goroutines > h.Before && os.Getenv("CTXLOCK_STACKS") != "" {
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "%s\n", stacks[:runtime.Stack(stacks, true)])
	}
	c.say(note{What: closed, Health: h})
}

// health looks at the process. The heap is what is in use, so it is of interest only when nobody works, and looked at only then.
func (c *client) health() health {
	h := health{Goroutines: runtime.NumGoroutine(), Before: c.before, Busy: int(c.aside.Load())}
	for _, w := range c.workers {
		if w.busy.Load() {
			h.Busy++
		}
	}
	if h.Busy == 0 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		h.Heap = m.HeapAlloc
	}
	return h
}

// hold takes one of many locks and says what becomes of it. They are taken one after the other: extended at once, they would all end at once.
func (c *client) hold(i int) {
	time.Sleep(time.Duration(i) * c.Place.Validity / (2 * crowd))
	h, err := c.locker.Lock(context.Background(), fmt.Sprint(c.Name, " ", i))
	if err != nil {
		c.say(note{What: failed, Worker: i, Error: err.Error()})
		return
	}
	c.say(note{What: held, Worker: i, At: monotonic()})
	for h.Alive() {
		time.Sleep(glance)
	}
	c.say(note{What: over, Worker: i, At: monotonic()})
	_ = h.Release() // it has ended: nothing is expected of that
}

func (c *client) say(n note) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.Encode(n) != nil {
		os.Exit(0) // the lab has gone
	}
}
