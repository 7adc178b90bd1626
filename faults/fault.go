package main

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// fault is a row of the table: what strikes, and when.
type fault struct {
	Name string
	Text string // what happens, for the page
	Kind Kind   // of the servers; default: Single
	// Config of the servers. A function, since it is not known at the start of the program whether it can be had.
	Config func() lab.Config
	// Excluded tells that the guarantee of locks does not cover it: servers lose data, or a process acts late. Fencing tokens do.
	Excluded bool
	// Except are libraries whose documentation excludes it.
	Except []string
	// Quiet tells that it must not run beside others.
	Quiet bool
	// Only and Not are the libraries that it can be tried on; empty: all.
	Only, Not []string
	// Fleet is the library of each client, if they are not all the same.
	Fleet []string
	// Clients is how many there are, and Workers how many each of them has; 0: as usual.
	Clients, Workers int
	// Reserve is how many clients more there may be later.
	Reserve int
	// Validity of the locks; 0: the usual one.
	Validity time.Duration
	// Holds is about how long all hold the lock for whom the fault wants nothing else; 0: some for
	// milliseconds, a few for a good part of a validity.
	Holds time.Duration
	// Beside is what clients do beside; Alone has the first client alone do it.
	Beside []beside
	Alone  bool
	// Bound is what theory allows, and Also what else has to be so.
	Bound  bound
	Also   func(*history.History) []string
	Strike func(*run) error
}

func (f *fault) clients() int { return max(len(f.Fleet), cmp.Or(f.Clients, clients)) }

func (f *fault) workers() int { return cmp.Or(f.Workers, workersEach) }

func (f *fault) validity() time.Duration { return cmp.Or(f.Validity, validity) }

// also says what else is wrong.
func (f *fault) also(h *history.History) []string {
	if f.Also == nil {
		return nil
	}
	return f.Also(h)
}

func (f *fault) kind() Kind {
	if f.Kind == "" {
		return Single
	}
	return f.Kind
}

// befalls tells whether a fault can be tried on a library.
func (f *fault) befalls(who Contender) bool {
	switch {
	case len(f.Only) > 0:
		return slices.Contains(f.Only, who.Library)
	case slices.Contains(f.Not, who.Library):
		return false
	case who.Library == etcdLibrary:
		return f.kind() == Single
	}
	return who.supports(f.kind())
}

// onHolder has a blow befall whoever holds the lock, in the middle of work that takes three validities, for one and a half to two.
func onHolder(b *blow) func(*run) error { return onHolderFor(b, validity*3/2, 2*validity) }

func onHolderFor(b *blow, from, to time.Duration) func(*run) error {
	return func(r *run) error {
		holder, err := r.grip(3 * validity)
		if err != nil {
			return err
		}
		r.pause(0, validity/2)
		return r.suffer(b, holder, from, to)
	}
}

// suffer is a blow that lasts for a time from a span.
func (r *run) suffer(b *blow, client int, from, to time.Duration) error {
	mend, err := r.strike(b, client)
	if err != nil {
		return err
	}
	r.pause(from, to)
	mend()
	return nil
}

// onAll has a blow befall everybody for so long, with long and short holdings.
func onAll(b *blow, d time.Duration) func(*run) error {
	return func(r *run) error {
		mend, err := r.strike(b, everyClient)
		if err != nil {
			return err
		}
		r.keepGripping(d)
		mend()
		return nil
	}
}

// keepGripping has work take a validity or so, for so long, whoever gets the lock.
func (r *run) keepGripping(d time.Duration) {
	own := r.fork()
	for deadline := time.Now().Add(d); time.Now().Before(deadline); {
		w := r.register.next(own.draw(validity/4, validity*5/4))
		select {
		case <-w.holder:
		case <-time.After(time.Until(deadline)):
			r.register.forget(w)
		}
	}
}

// onWaiters has a blow befall all but the holder, who gives the lock back meanwhile.
func onWaiters(b *blow) func(*run) error {
	return func(r *run) error {
		holder, err := r.grip(validity)
		if err != nil {
			return err
		}
		var mends []func()
		for i := range r.crew {
			if i == holder {
				continue
			}
			mend, err := r.strike(b, i)
			if err != nil {
				return err
			}
			mends = append(mends, mend)
		}
		r.pause(2*validity, 5*validity/2)
		for _, mend := range mends {
			mend()
		}
		return nil
	}
}

// inTurn has blows befall a holder one after the other, each for a while, with a while between them.
func inTurn(most time.Duration, blows ...*blow) func(*run) error {
	return func(r *run) error {
		holder, err := r.grip(3 * validity)
		if err != nil {
			return err
		}
		for range 8 {
			if err := r.suffer(blows[r.roll(len(blows))], holder, most/10, most); err != nil {
				return err
			}
			r.pause(0, most/2)
		}
		return nil
	}
}

// mixture is the blows that may be combined: none of them is beyond the guarantee. Clocks that jump to and fro are not among them: whoever sleeps
// through that, and whoever is kept from hearing of it by another fault, cannot know.
var mixture = []*blow{
	stall, stallUp, stallDown, cutOff, slowed, cuts, lostReplies, frozen, paused, tableOverflow, overfull, scriptsFlushed, clientsKilled,
	slotsMoved, stopped,
}

// possible are those that can befall a site.
func possible(blows []*blow, s *site) (some []*blow) {
	for _, b := range blows {
		if len(b.sites) == 0 || slices.Contains(b.sites, s.kind) {
			some = append(some, b)
		}
	}
	return some
}

// combined has three blows at once befall clients that are drawn, three times.
func combined(r *run) error { return r.combinations(nil) }

// combinedWithClock has one of the clock's be among them.
func combinedWithClock(r *run) error {
	return r.combinations(func() *blow { return []*blow{clockAhead, clockBehind, clockNear}[r.roll(3)] })
}

func (r *run) combinations(first func() *blow) error {
	blows := possible(mixture, r.site)
	for range 3 {
		if _, err := r.grip(2 * validity); err != nil {
			return err
		}
		if first == nil {
			r.combination(blows)
		} else {
			r.combination(blows, first())
		}
		r.pause(validity/4, validity/2)
	}
	return nil
}

// combination strikes three different blows, which overlap in time: some that are given, and others that are drawn.
func (r *run) combination(blows []*blow, given ...*blow) {
	var all sync.WaitGroup
	defer all.Wait()
	var struck []*blow
	for len(struck) < 3 {
		b := blows[r.roll(len(blows))]
		if len(struck) < len(given) {
			b = given[len(struck)]
		}
		if slices.ContainsFunc(struck, func(other *blow) bool { return other == b || other.timed && b.timed }) {
			continue
		}
		struck = append(struck, b)
		client, lasts, gap := r.roll(len(r.crew)), r.draw(validity/4, 2*validity), r.draw(0, validity/4)
		mend, err := r.strike(b, client)
		if err != nil {
			continue // another blow keeps it from falling, by which the server does not answer; each is tried by itself elsewhere
		}
		all.Go(func() { // each by itself: one may be mended only when another is
			time.Sleep(lasts)
			mend()
		})
		time.Sleep(gap)
	}
}

// everySecond is how often a server with "appendfsync everysec" makes sure that its log is on the disk.
const everySecond = time.Second

func logged(sync string) func() lab.Config {
	return func() lab.Config {
		return lab.Config{Args: []string{"--appendonly", "yes", "--appendfsync", sync}}
	}
}

func ownClock() lab.Config { return lab.Config{Clock: true} }

// jumping names a clock's step for the page.
func jumping(b *blow) string { return fmt.Sprintf("under a holder, the server's %s, and back", b.name) }
