package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
)

// A soak has mixed faults strike ctxlock for as long as is wanted. Clients live as long as the soak, but for the last of each site, which
// crashes at times. At the end of each leg everybody rests: the histories are judged, and what is in use is compared with the first leg.

// soakSites are where it goes on, all at once. Where the guarantee excludes what happens, the tokens alone must hold; they may fail where data is
// lost and the clock was set back as well (Lock.Token says so), so that is not combined.
var soakSites = []*fault{
	{Name: "one server", Beside: []beside{minglingLenient}, Bound: soaking},
	{Name: "one server majority 2", Fleet: slices.Repeat([]string{oursTwiceLibrary}, clients), Beside: []beside{minglingLenient}, Bound: soaking},
	{Name: "three nodes", Kind: Nodes, Bound: soaking.inAnyOrder()},
	{Name: "cluster", Kind: Cluster, Beside: []beside{minglingLenient}, Bound: soaking},
	{Name: "both kinds", Fleet: mixedFleet, Bound: soaking},
	{Name: "one server data lost", Excluded: true, Bound: soaking},
	{Name: "one server clock jumps", Config: ownClock, Excluded: true, Bound: soaking},
}

// soaking is for three faults at once, each of which may cost a validity, and a client that crashes.
var soaking = oneValidity.plus(3*validity, "four faults, one validity each")

// blowsOf are those that strike a site.
func blowsOf(f *fault, s *site) []*blow {
	blows := append(slices.Clone(mixture), cutNowAndThen, othersStopped)
	switch {
	case f.Fleet != nil && slices.Contains(f.Fleet, valkeylockLibrary):
		blows = []*blow{cuts, cutNowAndThen, clientsKilled, scriptsFlushed} // it excludes under no others
	case f.Excluded && f.Config != nil:
		blows = append(blows, clockAhead, clockBehind, clockNear, stoppedLate)
		for _, d := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, time.Second} {
			blows = append(blows, steppedBy(d), steppedBy(-d))
		}
	case f.Excluded:
		blows = append(blows, killed, flushed, evicting, stoppedLate)
	}
	return possible(blows, s)
}

// soaked is one site of a soak.
type soaked struct {
	*run
	blows []*blow

	opened   time.Time
	mu       sync.Mutex
	crashes  int
	holdings int // of the legs before this
	wrong    []string
	// What the guarantee excludes, of the legs before this.
	overlaps, lost, refused int
	first                   []health // of each client, after the first leg; the last is not compared
	last                    []health
}

// legOf is how long a leg is: there are at least three.
func legOf(d time.Duration) time.Duration { return min(2*time.Minute, d/3) }

// soak fails if anything promised did not hold.
func soak(ctx context.Context, d time.Duration, seed uint64, only, histories string) error {
	if err := os.MkdirAll(histories, 0o755); err != nil {
		return err
	}
	ours, err := find(oursLibrary)
	if err != nil {
		return err
	}
	began := time.Now()
	var sites []*soaked
	defer func() {
		for _, s := range sites {
			s.close()
		}
	}()
	faults, err := selected(soakSites, only)
	if err != nil {
		return err
	}
	for _, f := range faults {
		r, err := open(f, ours, seed)
		if err != nil {
			return err
		}
		sites = append(sites, &soaked{run: r, blows: blowsOf(f, r.site), opened: time.Now()})
	}
	var legs sync.WaitGroup
	over := make(chan struct{})
	for _, s := range sites {
		legs.Go(func() { s.legs(ctx, began.Add(d), legOf(d), histories) })
	}
	go func() { legs.Wait(); close(over) }()
	report(os.Stdout, sites, began, over)
	return summary(os.Stdout, sites, began)
}

// report prints a line for each site now and then, until it is over.
func report(w io.Writer, sites []*soaked, began time.Time, over <-chan struct{}) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		for _, s := range sites {
			fmt.Fprintf(w, "%6s  %s\n", time.Since(began).Round(time.Second), s)
		}
	}
}

// String is the state of a site in a line.
func (s *soaked) String() string {
	holdings := 0
	for _, m := range s.fleet() {
		holdings += m.holdings()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	holdings += s.holdings
	s.run.mu.Lock()
	struck := s.struck
	s.run.mu.Unlock()
	state := fmt.Sprintf("%-24s %4.1f/s, %7d holdings, %5d faults, %3d crashes, %d violations; %s",
		s.fault.Name, float64(holdings)/time.Since(s.opened).Seconds(), holdings, struck, s.crashes, len(s.wrong), use(s.first, s.last))
	if s.fault.Excluded {
		state += fmt.Sprintf("; excluded: %d overlaps, %d updates lost without tokens, %d writes refused", s.overlaps, s.lost, s.refused)
	}
	return state
}

// use is what clients take at rest, after the first leg and after the last.
func use(first, last []health) string {
	if len(last) == 0 {
		return "first leg"
	}
	most := func(all []health) (heap float64, goroutines int) {
		for _, h := range all {
			heap, goroutines = max(heap, float64(h.Heap)/(1<<20)), max(goroutines, h.Goroutines)
		}
		return heap, goroutines
	}
	heap, goroutines := most(first)
	heapNow, goroutinesNow := most(last)
	return fmt.Sprintf("%.1f to %.1f MB, %d to %d goroutines at rest", heap, heapNow, goroutines, goroutinesNow)
}

// summary is the last word.
func summary(w io.Writer, sites []*soaked, began time.Time) (err error) {
	fmt.Fprintf(w, "\nafter %s:\n", time.Since(began).Round(time.Second))
	for _, s := range sites {
		err = errors.Join(err, s.flat())
		fmt.Fprintln(w, s)
		for _, wrong := range s.wrong {
			fmt.Fprintln(w, "    ", wrong)
			err = errors.Join(err, fmt.Errorf("%s: %s", s.fault.Name, wrong))
		}
	}
	if err == nil {
		fmt.Fprintln(w, "no violation; memory and goroutines are flat")
	}
	return err
}

// legs goes on until the deadline.
func (s *soaked) legs(ctx context.Context, deadline time.Time, leg time.Duration, histories string) {
	for n := 1; time.Now().Before(deadline) && ctx.Err() == nil; n++ {
		until := time.Now().Add(leg)
		if until.After(deadline.Add(-leg / 2)) { // no short one at the end
			until = deadline
		}
		base := func(n int) string {
			return filepath.Join(histories, fmt.Sprintf("soak-%s-seed-%d-leg-%d", fileName(s.fault.Name), s.seed, n))
		}
		if err := s.leg(ctx, until, base(n)); err != nil {
			s.blame("leg %d: %v", n, err)
			return
		}
		s.discard(base(n - legsKept))
	}
}

// legsKept is how many histories of the last legs are kept; those in which something was wrong all are.
const legsKept = 3

func (s *soaked) discard(base string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.wrong, func(wrong string) bool { return strings.Contains(wrong, "("+base+")") }) {
		return
	}
	_, _ = os.Remove(base+".json"), os.Remove(base+".svg") // there may be none
}

func (s *soaked) blame(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

// leg has faults strike until a moment, and then all rest.
func (s *soaked) leg(ctx context.Context, until time.Time, base string) error {
	began, before := monotonic(), s.crashes
	s.register.empty()
	s.tell(start)
	var stuck error
	for stuck == nil && time.Now().Before(until) && ctx.Err() == nil {
		if _, stuck = s.grip(s.draw(validity/8, validity)); stuck != nil {
			break
		}
		if s.roll(8) == 0 && s.fault.Config == nil { // a key may live for an hour whose holder crashes just after a clock was set back by that
			if err := s.crash(); err != nil {
				return err
			}
		}
		s.combination(s.blows)
		s.pause(0, validity/2)
	}
	s.mendAll()
	return s.rest(&outcome{Stuck: stuck != nil, Crashed: s.crashes > before}, began, base)
}

// crash kills the last client, and puts another in its place.
func (s *soaked) crash() error {
	last := len(s.crew) - 1
	if _, err := s.strike(crashed, last); err != nil {
		return err
	}
	began := monotonic()
	old := s.crew[last]
	c := old.contract
	c.Seed++
	fresh, err := enlistAnyway(c, s.register)
	if err != nil {
		return err
	}
	fresh.rounds = old.history()
	s.run.add(&history.Strike{Name: "a client starts", Struck: began, Mended: monotonic(), Client: &last, Blocked: true})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crew[last] = fresh
	s.crashes++
	fresh.tell(order{What: start}, 0)
	return nil
}

// enlistAnyway tries more than once: a fault may keep a client from connecting.
func enlistAnyway(c contract, g *register) (m *member, err error) {
	for range 5 {
		if m, err = enlist(c, g); err == nil {
			break
		}
	}
	return m, err
}

// fleet is the clients as they are now.
func (s *soaked) fleet() []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.crew)
}

// rest judges a leg. What was wrong is kept as a history with its picture.
func (s *soaked) rest(o *outcome, began int64, base string) error {
	o.Busy = s.drain()
	o.Keys = s.keysLeft(o.Crashed)
	for _, m := range s.crew {
		o.Complain = append(o.Complain, m.complained()...)
	}
	o.history = s.history(began)
	if err := o.history.Save(base + ".json"); err != nil {
		return err
	}
	if err := o.judge(s.fault, s.who); err != nil {
		return err
	}
	s.strikes, s.mends = nil, nil
	healths := s.healths()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holdings += o.Holdings
	s.overlaps, s.lost, s.refused = s.overlaps+o.Overlaps, s.lost+o.Plain.Lost, s.refused+o.Refused
	if s.last = healths; s.first == nil {
		s.first = healths
	}
	for _, wrong := range slices.Concat(o.Wrong, o.Slow) {
		s.wrong = append(s.wrong, fmt.Sprintf("%s (%s)", wrong, base))
	}
	return draw(o.history, base+".svg")
}

// healths are those of the clients that live as long as the soak, and forgets their rounds.
func (s *soaked) healths() (all []health) {
	for _, m := range s.crew {
		m.forgetRounds()
	}
	for _, m := range s.crew[:len(s.crew)-1] {
		h, _ := m.health()
		all = append(all, h)
	}
	return all
}

// What may be more after the last leg than after the first.
const (
	moreGoroutines = 10
	moreHeap       = 4 << 20
)

// flat is the error of clients that grow.
func (s *soaked) flat() (err error) {
	for i := range min(len(s.first), len(s.last)) {
		a, b := s.first[i], s.last[i]
		if b.Goroutines > a.Goroutines+moreGoroutines {
			err = errors.Join(err, fmt.Errorf("%s: client %d went from %d goroutines to %d", s.fault.Name, i, a.Goroutines, b.Goroutines))
		}
		if b.Heap > a.Heap+a.Heap/2+moreHeap {
			err = errors.Join(err, fmt.Errorf("%s: client %d went from %d bytes to %d", s.fault.Name, i, a.Heap, b.Heap))
		}
	}
	return err
}
