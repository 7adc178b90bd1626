package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// crowd is how many locks one client holds whose ends are measured: as many samples come of one blow.
const crowd = 40

// spans are times that were measured for one library.
type spans struct {
	Library string
	// Deleted: from the deletion of the keys to the end of the holding. Silent: from the stall of the link to the same. Crashed: from the
	// holder's crash until somebody who waited had the lock.
	Deleted, Silent, Crashed []time.Duration
}

// measure takes all times, of all libraries at once: they are mostly of waiting.
func measure(contenders []Contender, progress io.Writer) ([]*spans, error) {
	all := make([]*spans, len(contenders))
	errs := make([]error, len(contenders))
	var wait sync.WaitGroup
	for i, who := range contenders {
		wait.Go(func() { all[i], errs[i] = measureOne(who) })
	}
	wait.Wait()
	for _, s := range all {
		if s != nil {
			fmt.Fprintf(progress, "%-12s deleted %s, silent %s, crashed %s\n", s.Library, spread(s.Deleted), spread(s.Silent), spread(s.Crashed))
		}
	}
	return all, errors.Join(errs...)
}

// spread is the least, the median and the greatest.
func spread(times []time.Duration) string {
	if len(times) == 0 {
		return "-"
	}
	sorted := slices.Sorted(slices.Values(times))
	return fmt.Sprintf("%s / %s / %s", short(sorted[0]), short(sorted[len(sorted)/2]), short(sorted[len(sorted)-1]))
}

func measureOne(who Contender) (*spans, error) {
	s := &spans{Library: who.Library}
	var err error
	if who.Library != etcdLibrary { // its keys are its own affair
		s.Deleted, err = endings(who, func(at *site) error { return at.command("FLUSHALL") })
	}
	if err == nil {
		s.Silent, err = endings(who, func(at *site) error {
			for _, link := range at.links[0] {
				link.Stall(lab.Both)
			}
			return nil
		})
	}
	if err == nil {
		s.Crashed, err = successions(who)
	}
	if err != nil {
		err = fmt.Errorf("times of %s: %w", who.Library, err)
	}
	return s, err
}

// stage is servers and clients for one measurement.
type stage struct {
	site *site
	crew []*member
}

func openStage(who Contender, n int) (*stage, error) {
	kind := Single
	if who.Library == etcdLibrary {
		kind = Etcd
	}
	at, err := openSite(kind, n, validity, lab.Config{})
	if err != nil {
		return nil, err
	}
	s := &stage{site: at}
	for i := range n {
		g := newRegister(rand.New(rand.NewPCG(0, 0)), validity) // of which nobody makes use
		m, err := enlist(contract{Library: who.Library, Client: i, Place: at.place(i), Name: lockName}, g)
		if err != nil {
			s.close()
			return nil, err
		}
		s.crew = append(s.crew, m)
	}
	return s, nil
}

func (s *stage) close() {
	for _, m := range s.crew {
		m.kill()
	}
	s.site.close()
}

// hear waits for a note about each lock, and gives the times since then.
func (m *member) hear(what noteKind, since int64, within time.Duration) (times []time.Duration, err error) {
	late := time.After(within)
	for len(times) < crowd {
		select {
		case n := <-m.holds:
			switch n.What {
			case what:
				times = append(times, time.Duration(n.At-since))
			case failed:
				return times, errors.New(n.Error)
			}
		case <-late:
			return times, nil // of some there is nothing to be heard; what there is says so
		}
	}
	return times, nil
}

// endings measures from a blow to the ends of holdings.
func endings(who Contender, blow func(*site) error) ([]time.Duration, error) {
	s, err := openStage(who, 1)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.holdAll(s.crew[0]); err != nil {
		return nil, err
	}
	since := monotonic()
	if err := blow(s.site); err != nil {
		return nil, err
	}
	return s.crew[0].hear(over, since, 3*validity)
}

// holdAll has a client take the crowd of locks, and hold them for longer than a validity.
func (s *stage) holdAll(m *member) error {
	m.tell(order{What: hold, Locks: crowd}, 0)
	got, err := m.hear(held, 0, patience)
	if err == nil && len(got) < crowd {
		err = fmt.Errorf("%d of %d locks were taken", len(got), crowd)
	}
	time.Sleep(validity * 5 / 4)
	return err
}

// successions measures from a crash of the holder until the next have the locks.
func successions(who Contender) ([]time.Duration, error) {
	s, err := openStage(who, 2)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.holdAll(s.crew[0]); err != nil {
		return nil, err
	}
	s.crew[1].tell(order{What: hold, Locks: crowd}, 0)
	time.Sleep(validity / 2) // they have begun to wait
	since := monotonic()
	s.crew[0].kill()
	return s.crew[1].hear(held, since, 3*validity)
}
