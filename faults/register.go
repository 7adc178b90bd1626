package main

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
)

// register is the state that the clients share, twice: a plain one that takes every write, and a fenced one that takes none with a token
// below the greatest that it has seen, also of reads. Its state is told by the last element that was added; each write replaces
// all of it by what the writer has made of what it read, as a file or an object in a bucket would be, so writes of two who read the same
// state cost one of them its update.
type register struct {
	mu       sync.Mutex
	random   *rand.Rand
	validity time.Duration
	holds    time.Duration   // about how long holders work; 0: see draw
	last     history.Element // that was given out
	plain    history.Element
	fenced   history.Element
	greatest int64             // token
	wanted   *wish             // nil: nobody wishes for a holder
	onAct    map[int]*stopping // by client: called once, when one of its workers is about to write
}

// wish asks for the next holder to work for a while.
type wish struct {
	work   time.Duration
	holder chan int // gets the client's number, while it works
}

func newRegister(random *rand.Rand, validity time.Duration) *register {
	return &register{random: random, validity: validity, onAct: make(map[int]*stopping)}
}

// read answers a worker that has the lock: what there is, which element to add, and how long to take for it.
func (g *register) read(client int, token int64) order {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.greatest = max(g.greatest, token)
	g.last++
	o := order{What: answer, Read: history.Write{Element: g.last, Read: g.plain, Fenced: g.fenced}, Work: g.draw()}
	if g.wanted != nil {
		o.Work = g.wanted.work
		g.wanted.holder <- client
		g.wanted = nil
	}
	return o
}

// draw is how long a holder works whom nobody watches: mostly short, at times for long.
func (g *register) draw() time.Duration {
	if g.holds > 0 {
		return g.holds/2 + time.Duration(g.random.Int64N(int64(g.holds)))
	}
	if g.random.IntN(20) == 0 {
		return g.validity/8 + time.Duration(g.random.Int64N(int64(g.validity/2)))
	}
	return 2*time.Millisecond + time.Duration(g.random.Int64N(int64(15*time.Millisecond)))
}

// act is called when a worker has seen that it is alive, and before it writes.
func (g *register) act(client int) {
	g.mu.Lock()
	s := g.onAct[client]
	if delete(g.onAct, client); s != nil {
		s.called.Store(true)
	}
	g.mu.Unlock()
	if s != nil {
		s.f()
	}
}

// write takes a write, as far as the token goes.
func (g *register) write(w history.Write, token int64) order {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.plain, w.Applied = w.Element, monotonic()
	if w.Refused = token != 0 && token < g.greatest; !w.Refused && token != 0 { // the fenced register is not for those without
		g.greatest, g.fenced = token, w.Element
	}
	return order{What: answer, Write: w}
}

// next asks for the next holder.
func (g *register) next(work time.Duration) *wish {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wanted = &wish{work: work, holder: make(chan int, 1)}
	return g.wanted
}

// forget takes a wish back.
func (g *register) forget(w *wish) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wanted == w {
		g.wanted = nil
	}
}

// stopAt has f called when a worker of the client is about to write next; nil: nothing any more.
// It tells when that has happened.
func (g *register) stopAt(client int, f func()) (called *atomic.Bool) {
	s := &stopping{f: f}
	g.mu.Lock()
	defer g.mu.Unlock()
	if delete(g.onAct, client); f != nil {
		g.onAct[client] = s
	}
	return &s.called
}

// stopping is what to call, once.
type stopping struct {
	f      func()
	called atomic.Bool // or is about to be
}

// empty begins a new state, in which nothing is. Tokens go on.
func (g *register) empty() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.plain, g.fenced = 0, 0
}

func (g *register) state() (plain, fenced history.Element) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.plain, g.fenced
}
