package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// suite runs scenarios.
type suite struct {
	park     *park
	progress io.Writer
	rounds   int
	warm     time.Duration
	length   time.Duration // of a slot of 1
	tripOnly time.Duration // -1: all

	slots   int // for names that no other round has used
	results results
}

// run runs a scenario at all its distances.
func (s *suite) run(sc scenario) error {
	for _, trip := range sc.trips {
		if s.tripOnly >= 0 && trip != s.tripOnly {
			continue
		}
		if err := s.runAt(sc, trip); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) runAt(sc scenario, trip time.Duration) error {
	at, err := s.park.site(trip)
	if err != nil {
		return err
	}
	start := time.Now()
	field := sc.field(trip)
	done := make([][]*round, len(field))
	for i := range s.roundsOf(sc, trip) {
		for _, j := range order(len(field), i) {
			one, err := s.slot(sc, field[j], at)
			if err != nil { // of a peer, mostly: the others go on
				one = &round{ops: []int{0}, handoffs: -1, noRate: true, seen: trouble{failures: 1, err: err}}
			}
			done[j] = append(done[j], one)
		}
	}
	fmt.Fprintf(s.progress, "%-34s %5v  %5.1fs\n", sc.name, trip, time.Since(start).Seconds())
	for j, who := range field {
		r := pool(sc, trip, who, done[j])
		s.results = append(s.results, r)
		fmt.Fprintln(s.progress, "   ", r.line())
	}
	return nil
}

// order alternates: every other round runs backwards, so that nobody always runs after the same one, or at the end of each round.
func order(n, round int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	if round%2 == 1 {
		slices.Reverse(list)
	}
	return list
}

func (s *suite) roundsOf(sc scenario, trip time.Duration) int {
	if sc.once {
		return 1
	}
	return s.rounds * sc.cuts(trip)
}

func (s *suite) slot(sc scenario, who Contender, at site) (*round, error) {
	s.slots++
	on := bench{site: at, meter: s.park.meterOf(who), warm: s.warmOf(sc, at.roundTrip), length: s.lengthOf(sc, at.roundTrip)}
	return sc.run(who, on, fmt.Sprintf("%d/%d", os.Getpid(), s.slots))
}

// warmOf is longer where many lockers queue up first, and where everything takes longer.
func (s *suite) warmOf(sc scenario, trip time.Duration) time.Duration {
	return s.warm/time.Duration(sc.cuts(trip)) + 5*trip + time.Duration(sc.lockers)*time.Millisecond
}

func (s *suite) lengthOf(sc scenario, trip time.Duration) time.Duration {
	if sc.once {
		return heldFor
	}
	return time.Duration(sc.slot(trip)*float64(s.length)) / time.Duration(sc.cuts(trip))
}

// estimate is how long scenarios will take.
func (s *suite) estimate(list []scenario) (total time.Duration) {
	for _, sc := range list {
		for _, trip := range sc.trips {
			if s.tripOnly >= 0 && trip != s.tripOnly {
				continue
			}
			opening := 15*time.Millisecond + 8*trip + time.Duration(sc.lockers)*2*time.Millisecond
			if sc.once {
				opening = 5 * time.Second
			}
			slot := opening + s.warmOf(sc, trip) + s.lengthOf(sc, trip)
			total += slot * time.Duration(s.roundsOf(sc, trip)*len(sc.field(trip)))
		}
	}
	return total
}
