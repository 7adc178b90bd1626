package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/faulty"
	"github.com/ctxlock/ctxlock/memlock"
	"github.com/ctxlock/ctxlock/store"
)

// history is one run of a plan. It lives in a bubble.
type history struct {
	plan    plan
	server  *memlock.Server
	trace   *trace
	checker *checker
	// wrap makes a store unsafe, to see that the checker notices.
	wrap func(store.Store) store.Store

	processes []*process
	// over ends when the faults do, and with it what everybody is about; stopped when the checker is to stop.
	over    context.Context
	end     context.CancelFunc
	workers sync.WaitGroup
	stopped chan struct{}
}

// process is what the operating system would call one: a locker, and those who use it.
type process struct {
	*history
	who string

	mu sync.Mutex
	// Below mu.
	locker  ctxlock.Locker
	link    *faulty.Store
	opened  uint64 // how many lockers it has had
	crashed bool   // cut off for ever
}

// run runs a plan from beginning to end and returns the checker with what it found.
func run(t *testing.T, p plan, wrap func(store.Store) store.Store) *checker {
	h := &history{plan: p, server: memlock.NewServer(p.server), trace: &trace{start: time.Now()}, wrap: wrap, stopped: make(chan struct{})}
	h.checker = newChecker(p, h.server, h.trace)
	h.over, h.end = context.WithTimeout(context.Background(), p.length)
	defer h.end()
	for i := range p.processes {
		h.startProcess(t, i)
	}
	go h.watch()
	if p.lawless && !p.alone {
		h.workers.Go(h.vandalize)
	}
	h.workers.Wait()
	h.heal()
	if p.tidy {
		time.Sleep(retries)
		h.nothingLeft("after all was given back")
	}
	h.everybodysTurn()
	h.finish()
	return h.checker
}

func (h *history) startProcess(t *testing.T, i int) {
	pr := &process{history: h, who: fmt.Sprintf("p%d", i)}
	if err := pr.open(); err != nil {
		t.Fatal(err)
	}
	h.processes = append(h.processes, pr)
	for j := range h.plan.workers {
		w := &worker{process: pr, who: fmt.Sprintf("p%d.w%d", i, j), random: h.random(2, uint64(i), uint64(j))}
		h.workers.Go(w.work)
	}
	if h.plan.troubles > 0 {
		h.workers.Go(func() { pr.suffer(h.random(3, uint64(i), 0), i < h.plan.crashes) })
	}
}

// random gives everybody numbers of their own, so that they do not depend on who comes first.
func (h *history) random(what, i, j uint64) *rand.Rand {
	return rand.New(rand.NewPCG(h.plan.seed, what<<32|i<<16|j))
}

// watch has the checker look at regular instants.
func (h *history) watch() {
	tick := time.NewTicker(max(3*time.Millisecond, h.plan.locker.KeyValidity/100))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.checker.checkAll()
			if h.checker.failed() {
				h.end()
			}
		case <-h.stopped:
			return
		}
	}
}

// pause waits while the history goes on, and tells whether it does.
func (h *history) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.over.Done():
		return false
	}
}

// vandalize deletes keys that others rely on.
func (h *history) vandalize() {
	r := h.random(4, 0, 0)
	for h.pause(between(r, h.plan.locker.KeyValidity, 20*h.plan.locker.KeyValidity)) {
		if r.IntN(4) == 0 {
			h.trace.add("vandal", "", "deletes everything")
			h.server.Flush()
			continue
		}
		name := nameOf(r.IntN(h.plan.names))
		key := keyOf(r.IntN(int(2*h.plan.locker.KeyMajority-1)), name)
		h.trace.add("vandal", name, "deletes %s", key)
		h.server.Delete(key)
	}
}

// open gives the process a new locker.
func (pr *process) open() error {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	pr.opened++
	config := pr.plan.faults
	config.Seed = pr.random(5, pr.opened, uint64(pr.who[1])).Uint64()
	connection := store.Store(recorder{pr.server.Store(), pr.who, pr.trace})
	if pr.wrap != nil {
		connection = pr.wrap(connection)
	}
	link := faulty.New(connection, config)
	options := ctxlock.Options{LockerOption: pr.plan.locker, Contention: pr.plan.contention}
	options.NoQueue = pr.random(7, pr.opened, uint64(pr.who[1])).Float64() < pr.plan.queueless
	locker, err := ctxlock.NewOnStore(&meter{Store: link, checker: pr.checker, most: pr.plan.load()}, options)
	if err != nil {
		link.Close()
		return err
	}
	pr.locker, pr.link = locker, link
	return nil
}

// close closes the locker, which must not take long, whatever the network does.
func (pr *process) close() {
	start := time.Now()
	pr.trace.add(pr.who, "", "closes")
	pr.current().Close()
	took := time.Since(start)
	pr.trace.add(pr.who, "", "closed, which took %v", took)
	if took > 10*time.Second {
		pr.checker.blame("", "%s: Close took %v", pr.who, took)
	}
}

func (pr *process) current() ctxlock.Locker {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	return pr.locker
}

// suffer puts a process through what may happen to one besides faults of the network.
func (pr *process) suffer(r *rand.Rand, crashes bool) {
	for pr.pause(between(r, pr.plan.troubles/10, pr.plan.troubles)) {
		what, lane, d := r.IntN(8), r.IntN(pr.plan.server.Lanes), between(r, 1, 2*pr.plan.locker.KeyValidity)
		switch {
		case crashes && what == 0:
			pr.trace.add(pr.who, "", "is cut off for ever")
			pr.link.Crash()
			pr.mu.Lock()
			pr.crashed = true
			pr.mu.Unlock()
			return
		case pr.plan.stalls && what < 3:
			pr.trace.add(pr.who, "", "stalls for %v", d)
			pr.link.Stall(true)
			pr.pause(d)
			pr.link.Stall(false)
			pr.trace.add(pr.who, "", "goes on")
		case pr.plan.lanes && what < 6:
			pr.trace.add(pr.who, "", "lane %d stalls for %v", lane, d)
			pr.link.StallLane(lane, true)
			pr.pause(d)
			pr.link.StallLane(lane, false)
			pr.trace.add(pr.who, "", "lane %d goes on", lane)
		case pr.plan.opens:
			pr.close()
			if err := pr.open(); err != nil {
				pr.checker.blame("", "open: %v", err)
			}
		}
	}
}

// heal ends all faults but the crashes. Those who never heard an event do not begin to.
func (h *history) heal() {
	for _, pr := range h.processes {
		if !pr.crashed {
			pr.link.Set(faulty.Config{LoseEvent: h.plan.deaf()})
		}
	}
	h.trace.add("all", "", "is well again")
}

// everybodysTurn has everybody who is not cut off take each lock once more, which must not take long.
func (h *history) everybodysTurn() {
	var turns sync.WaitGroup
	for _, pr := range h.processes {
		if pr.crashed {
			continue
		}
		for j := range h.plan.workers {
			for i := range h.plan.names {
				turns.Go(func() { pr.takeTurn(fmt.Sprintf("%s.w%d", pr.who, j), nameOf(i)) })
			}
		}
	}
	turns.Wait()
}

func (pr *process) takeTurn(who, name string) {
	ctx, stop := context.WithTimeout(context.Background(), pr.plan.turn())
	defer stop()
	start := time.Now()
	pr.trace.add(who, name, "wants its turn")
	after := pr.checker.lastToken(name)
	lock, handle, err := pr.current().Acquire(ctx, name, ctxlock.AcquireOption{Fencing: pr.plan.fenced})
	defer handle.Release(context.Background())
	if err != nil {
		pr.checker.blame(name, "all is well again, and %s did not get %s within %v: %v", who, name, time.Since(start), err)
		return
	}
	pr.trace.add(who, name, "has its turn")
	pr.checker.begin(who, name, lock)
	if pr.plan.fenced {
		pr.checker.token(who, name, lock, handle.Token(), after)
	}
	time.Sleep(time.Millisecond)
}

// finish ends everything and checks that nothing is left.
func (h *history) finish() {
	if !h.plan.tidy {
		time.Sleep(3*h.plan.faults.MaxDelay + 2*h.plan.longest() + store.WakeLife)
	}
	for _, pr := range h.processes {
		pr.close()
	}
	h.nothingLeft("after all lockers were closed")
	close(h.stopped)
	h.checker.lasted = time.Since(h.trace.start)
}

func (h *history) nothingLeft(when string) {
	if keys := slices.DeleteFunc(h.server.Keys(), h.mayStay); len(keys) > 0 {
		name := keys[0][strings.LastIndexByte(keys[0], ':')+1:]
		h.checker.blame(name, "keys are left %s: %q", when, keys)
	}
}

// mayStay tells whether a key is one of those that are left to run out, and will.
func (h *history) mayStay(key string) bool {
	return strings.HasPrefix(key, "sim:T:") && h.server.TTL(key) < counterLife ||
		(strings.HasPrefix(key, "sim:Q:") || strings.HasPrefix(key, "sim:Z:")) && h.server.TTL(key) <= noteLife ||
		strings.HasPrefix(key, "y:") && h.server.TTL(key) <= pauseLife
}

// noteLife is how long a note of who waits stands at the most when nobody could be told to take it back. counterLife is more than a
// counter of fencing tokens lives when nobody uses it.
const (
	noteLife    = time.Minute
	pauseLife   = 100 * time.Millisecond // of the mark that a lock is left to others for now
	counterLife = time.Hour + time.Minute
)

// worker takes locks and gives them back, in all the ways that callers do.
type worker struct {
	*process
	who    string
	random *rand.Rand
}

func (w *worker) work() {
	if w.plan.mixed {
		w.mix()
		return
	}
	for w.pause(w.short()) {
		name := nameOf(w.random.IntN(w.plan.names))
		switch what := w.random.IntN(20); {
		case what == 0 && w.plan.lawless:
			w.take("force", name, w.call(ctxlock.Force, w.current().ForceWithContext), w.long())
		case what < 6:
			w.take("try", name, w.call(ctxlock.Try, w.current().TryWithContext), 0)
		case what < 8 && w.plan.varied:
			w.takeAll(w.long())
		default:
			w.take("wait", name, w.call(ctxlock.Wait, w.current().WithContext), w.long())
		}
	}
}

// short is a time that is short beside the validity, mostly.
func (w *worker) short() time.Duration {
	return time.Duration(w.random.ExpFloat64() * float64(w.plan.locker.KeyValidity) / 8)
}

// long is a time of the order of the validity.
func (w *worker) long() time.Duration {
	return time.Duration(w.random.ExpFloat64()*float64(w.plan.locker.KeyValidity)) * 2
}

// take takes a lock within patience, or without limit if that is 0, and holds it.
func (w *worker) take(how, name string, call call, patience time.Duration) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	timer := time.AfterFunc(patience, stop)
	defer timer.Stop()
	if patience == 0 {
		timer.Stop()
	}
	w.trace.add(w.who, name, how)
	start, after := time.Now(), w.checker.lastToken(name)
	lock, cancel, err := call(ctx, name)
	w.judgeCall(how, name, time.Since(start), patience, err)
	if err != nil {
		cancel()
		return
	}
	timer.Stop()
	w.trace.add(w.who, name, "has it")
	w.checker.begin(w.who, name, lock)
	if w.plan.fenced {
		w.checker.token(w.who, name, lock, ctxlock.FromContext(lock).Token(), after)
	}
	w.hold(name, lock, stop, cancel)
}

// judgeCall checks how long a call took, and what it said.
func (w *worker) judgeCall(how, name string, took, patience time.Duration, err error) {
	if err != nil {
		w.trace.add(w.who, name, "%s took %v: %v", how, took, err)
	}
	most := patience
	if most == 0 {
		most = 4 * w.plan.patience() // two attempts, and a clean-up between them
	}
	if took > most+time.Millisecond {
		w.checker.blame(name, "%s: %s took %v, which is more than %v", w.who, how, took, most)
	}
	expected := []error{
		ctxlock.ErrNotLocked, ctxlock.ErrLockerClosed, context.Canceled, context.DeadlineExceeded,
		faulty.ErrRefused, faulty.ErrCut, faulty.ErrClosed,
	}
	if err != nil && !slices.ContainsFunc(expected, func(target error) bool { return errors.Is(err, target) }) {
		w.trace.add(w.who, name, "strange: %v", err)
	}
}

// hold does what callers do with a lock. stop ends the context that it was taken with.
func (w *worker) hold(name string, lock context.Context, stop, cancel context.CancelFunc) {
	d := w.short()
	if w.random.IntN(6) == 0 {
		d = w.long() * 2
	}
	unwinding := w.long()
	how := w.random.IntN(12)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-lock.Done():
	}
	if how < 3 { // the caller's context ends, and it takes a while to get out
		w.trace.add(w.who, name, "is to end")
		stop()
		w.pause(unwinding)
	}
	if how == 0 && !w.plan.tidy { // and then cancel is forgotten
		return
	}
	w.trace.add(w.who, name, "cancels")
	start := time.Now()
	cancel()
	if took := time.Since(start); took > 5*time.Second {
		w.checker.blame(name, "%s: cancel took %v", w.who, took)
	}
	if lock.Err() == nil {
		w.checker.blame(name, "%s: the context is alive after cancel", w.who)
	}
}
