package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// The fleet of each run.
const (
	clients     = 3
	workersEach = 2
	// validity is that of all locks. It is the least that etcd allows a lease.
	validity = 2 * time.Second
	// unwinding is how long work goes on once its caller's context has ended.
	unwinding = 300 * time.Millisecond
	lockName  = "the lock"
)

// run is one fault, or several, striking one library.
type run struct {
	fault    *fault
	who      Contender
	seed     uint64
	site     *site
	register *register
	crew     []*member

	mu      sync.Mutex
	random  *rand.Rand
	strikes []*history.Strike
	counted int64    // since when holdings count for shares
	struck  int      // how many strikes there were, also in histories that are over
	mends   []func() // of what is not mended yet; by the place in strikes
}

// errStuck is what a run ends with in which nobody gets the lock any more.
var errStuck = errors.New("nobody gets the lock any more")

// seedOf gives each fault of a seed draws of its own, the same for all libraries.
func seedOf(seed uint64, fault string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(fault))
	return seed ^ h.Sum64()
}

// open starts the servers and the fleet.
func open(f *fault, who Contender, seed uint64) (*run, error) {
	random := rand.New(rand.NewPCG(seedOf(seed, f.Name), 1))
	r := &run{fault: f, who: who, seed: seed, random: random}
	kind, n, lasting := f.kind(), f.clients(), f.validity()
	if who.Library == etcdLibrary {
		kind = Etcd
	}
	var config lab.Config
	if f.Config != nil {
		config = f.Config()
	}
	var err error
	if r.site, err = openSite(kind, n+f.Reserve, lasting, config); err != nil {
		return nil, err
	}
	r.register = newRegister(rand.New(rand.NewPCG(seedOf(seed, f.Name), 2)), lasting)
	r.register.holds = f.Holds
	r.crew = make([]*member, n)
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { r.crew[i], errs[i] = enlist(r.contract(i), r.register) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// contract is what a client is told.
func (r *run) contract(client int) contract {
	c := contract{
		Library: r.who.Library, Client: client, Place: r.site.place(client), Name: lockName, Workers: r.fault.workers(),
		Seed: seedOf(r.seed, fmt.Sprint(r.fault.Name, client)), Unwinding: unwinding, Beside: r.fault.Beside,
	}
	if client < len(r.fault.Fleet) {
		c.Library = r.fault.Fleet[client]
	}
	if r.fault.Alone && client > 0 {
		c.Beside = nil
	}
	return c
}

// countShares has holdings count for shares from now on.
func (r *run) countShares() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counted = monotonic()
}

// close ends all processes of the run.
func (r *run) close() {
	for _, m := range r.crew {
		if m != nil {
			m.kill()
		}
	}
	r.site.close()
}

// tell gives all clients an order.
func (r *run) tell(what orderKind) {
	for _, m := range r.crew {
		if m.alive() {
			m.tell(order{What: what}, 0)
		}
	}
}

// draw gives a time from a span.
func (r *run) draw(from, to time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return from + time.Duration(r.random.Int64N(int64(to-from)))
}

// roll gives a number below n.
func (r *run) roll(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.IntN(n)
}

// fork gives a blow draws of its own, so that how many it makes changes nothing for those that come after it.
func (r *run) fork() *dice {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &dice{random: rand.New(rand.NewPCG(r.random.Uint64(), r.random.Uint64()))}
}

// dice are draws that several goroutines may make.
type dice struct {
	mu     sync.Mutex
	random *rand.Rand
}

func (d *dice) roll(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.random.IntN(n)
}

func (d *dice) draw(from, to time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return from + time.Duration(d.random.Int64N(int64(to-from)))
}

// pause lets everybody go on for a time from a span.
func (r *run) pause(from, to time.Duration) { time.Sleep(r.draw(from, to)) }

// patience is how long the lab waits for somebody to get the lock. Whoever holds it, and all faults, are over far sooner.
const patience = 6 * validity

// grip waits for somebody to get the lock who will work for that long, and tells which client.
func (r *run) grip(work time.Duration) (client int, err error) {
	w := r.register.next(work)
	select {
	case client = <-w.holder:
		return client, nil
	case <-time.After(patience):
		r.register.forget(w)
		return 0, errStuck
	}
}

// everyClient stands for no client in particular.
const everyClient = -1

// strike makes a blow fall, and notes it. mend ends it, and may be called again.
func (r *run) strike(b *blow, client int) (mend func(), err error) {
	s := &history.Strike{Name: b.name, Struck: monotonic(), Blocked: b.blocks}
	if b.one && client != everyClient {
		s.Client = &client
	}
	undo, err := b.do(r, client)
	if err != nil {
		if undo != nil {
			undo()
		}
		return nil, fmt.Errorf("%s: %w", b.name, err)
	}
	if undo == nil {
		s.Mended = monotonic()
		r.add(s)
		return func() {}, nil
	}
	mend = sync.OnceFunc(func() {
		undo()
		r.mu.Lock()
		defer r.mu.Unlock()
		s.Mended = monotonic()
	})
	r.add(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mends = append(r.mends, mend)
	return mend, nil
}

// add notes a strike.
func (r *run) add(s *history.Strike) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.strikes = append(r.strikes, s)
	r.struck++
}

// mendAll ends all blows.
func (r *run) mendAll() {
	r.mu.Lock()
	mends := slices.Clone(r.mends)
	r.mu.Unlock()
	for _, mend := range slices.Backward(mends) {
		mend()
	}
}

// history is what has happened so far.
func (r *run) history(began int64) *history.History {
	h := &history.History{
		Fault: r.fault.Name, Library: r.who.Library, Version: r.who.Version(), Server: r.site.version(), Seed: r.seed,
		Validity: r.fault.validity(), Began: began, Ended: monotonic(), Counted: r.counted,
	}
	for _, m := range r.crew {
		h.Clients = append(h.Clients, m.Library)
		h.Rounds = append(h.Rounds, m.history()...)
	}
	slices.SortFunc(h.Rounds, func(a, b history.Round) int { return int(a.Asked - b.Asked) })
	r.mu.Lock()
	for _, s := range r.strikes {
		h.Faults = append(h.Faults, *s)
	}
	r.mu.Unlock()
	h.Final, h.Fenced = r.register.state()
	return h
}

// perform strikes, and has everybody leave. The outcome is there also if what was written down contradicts itself, which is an error.
func (r *run) perform() (*outcome, error) {
	defer r.close()
	began := monotonic()
	r.tell(start)
	r.pause(300*time.Millisecond, 600*time.Millisecond)
	struck := r.fault.Strike(r)
	r.mendAll()
	if struck != nil && !errors.Is(struck, errStuck) {
		return nil, struck
	}
	stuck := struck != nil
	if !stuck { // somebody gets it once more, and later all is as before
		_, err := r.grip(10 * time.Millisecond)
		stuck = err != nil
		time.Sleep(validity)
	}
	o := &outcome{Stuck: stuck, Crashed: slices.ContainsFunc(r.crew, func(m *member) bool { return !m.alive() })}
	r.windUp(o)
	o.history = r.history(began)
	for _, m := range r.crew {
		o.Complain = append(o.Complain, m.complained()...)
	}
	return o, o.judge(r.fault, r.who)
}

// windUp has all clients leave, and sees what they leave behind.
func (r *run) windUp(o *outcome) {
	o.Busy = r.drain()
	var all sync.WaitGroup
	for _, m := range r.crew {
		if m.alive() {
			all.Go(func() {
				n, ok := m.leave()
				r.mu.Lock()
				defer r.mu.Unlock()
				o.note(n, ok)
			})
		}
	}
	all.Wait()
	o.Keys = r.keysLeft(o.Crashed)
	o.Connections = r.site.connections()
}

// drain has all workers end their rounds, and tells how many have not come back.
func (r *run) drain() (busy int) {
	r.tell(drain)
	for deadline := time.Now().Add(leaving); ; time.Sleep(20 * time.Millisecond) {
		if busy = r.busy(); busy == 0 || time.Now().After(deadline) {
			return busy
		}
	}
}

func (r *run) busy() (n int) {
	for _, m := range r.crew {
		if m.alive() {
			h, ok := m.health()
			if n += h.Busy; !ok {
				n += m.Workers
			}
		}
	}
	return n
}

// keysLeft lists what the library has left on the servers, once it has had the time to clean up. Of a client that crashed they run out.
// ctxlock takes back once a second what it has noted of its waiters, if a request for that had no answer.
func (r *run) keysLeft(crashed bool) (left []string) {
	const cleaning = 5 * time.Second / 2
	if r.who.Own == nil {
		return nil
	}
	for deadline := time.Now().Add(cleaning); ; time.Sleep(20 * time.Millisecond) {
		left = nil
		keys, err := r.site.keys()
		for key, ttl := range keys {
			if r.who.Own(key) && (ttl < 0 || !crashed) {
				left = append(left, key)
			}
		}
		if err == nil && len(left) == 0 || time.Now().After(deadline) {
			slices.Sort(left)
			return left
		}
	}
}
