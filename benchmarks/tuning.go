package main

import (
	"fmt"
	"os"
	"time"
)

// pools says in words what poolSizeOf does.
const pools = "a pool of the default size next to the servers, of 64 connections at a distance"

// poolSizeOf is the size of go-redis's pool of connections; 0 is its default, 20 on two cores. Next to the servers 64 workers of redislock do a
// little better with that than with 64 (31,494, 32,860 and 23,678 a second to 22,774, 26,160 and 27,140); at a distance a worker without a
// connection waits for a round trip of somebody else's.
func poolSizeOf(at site) int {
	if at.roundTrip == near {
		return 0
	}
	return 64
}

// retries says in words what retryOf does.
const retries = "1ms where up to 16 wait, 10ms up to 128, 50ms beyond, which serves it best by `-only retries`"

// retryOf is the pause between two tries of the peers that poll. Each size of crowd has the one with which `-only retries` found the most
// handoffs, or nearly as many and more acquisitions: with longer ones, acquisitions are those of one locker that has no rival awake. On
// Valkey 8.0 and 2 cores, acquisitions and handoffs a second:
//
//	redislock   16 lockers: 1ms 10,316 and 4,274; 5ms 10,315 and 1,305; 20ms 18,523 and 270
//	           128 lockers: 2ms 5,663 and 2,093; 5ms 8,587 and 2,578; 10ms 9,442 and 2,440; 20ms 8,976 and 1,288
//	           512 lockers: 5ms 1,619 and 710; 20ms 7,236 and 764; 50ms 9,914 and 1,002; 100ms 9,186 and 371
//	redsync     16 lockers: 1ms 9,183 and 4,878; 2ms 8,471 and 3,260; 10ms 9,606 and 938
//	           128 lockers: 5ms 4,011 and 2,406; 10ms 8,061 and 4,542; 20ms 8,300 and 2,956
//	           512 lockers: 10ms 816 and 752; 20ms 4,971 and 3,859; 50ms 7,868 and 3,946; 100ms 8,697 and 2,570
//	3 servers   16 lockers: 1ms 1,967 and 1,384; 2ms 2,500 and 1,435; 5ms 3,958 and 1,104; 10ms 4,269 and 644
func retryOf(at site) time.Duration {
	switch {
	case at.retry > 0:
		return at.retry
	case at.crowd <= 16:
		return time.Millisecond
	case at.crowd <= 128:
		return 10 * time.Millisecond
	}
	return 50 * time.Millisecond
}

// patient says in words what tryNextOf does.
const patient = "a TryNextAfter of 1s where nobody waits, since its 20ms fail on a busy machine"

// tryNextOf is how long valkeylock waits for a node. Where many want one name, its 20ms do better by a tenth or more (`-only TryNext`: 5,200
// acquisitions a second to 4,826 with 16 lockers, 775 to 448 with 128); where nobody else does, they gain nothing and some calls fail.
func tryNextOf(at site) time.Duration {
	if at.tryNextAfter == 0 && at.crowd == 0 {
		return time.Second
	}
	return at.tryNextAfter
}

// tuneRetries measures what the pause between two tries does.
func tuneRetries(p *park) error {
	s := tuner(p)
	for _, c := range []crowd{
		{lockers: 16, goroutines: 1, oneName: true}, {lockers: 1, goroutines: 64, oneName: true},
		{lockers: 128, goroutines: 1, oneName: true}, {lockers: 512, goroutines: 1, oneName: true},
	} {
		for _, who := range []Contender{bsm(), onPools(1), onPools(serverCount)} {
			for _, ms := range []time.Duration{1, 2, 5, 10, 20, 50, 100} {
				if err := s.tune(c, who, near, func(at *site) { at.retry = ms * time.Millisecond }); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// tuneTryNext measures whether valkeylock is better off with more patience than it has.
func tuneTryNext(p *park) error {
	s := tuner(p)
	for _, c := range []crowd{{lockers: 16, goroutines: 1, oneName: true}, {lockers: 128, goroutines: 1, oneName: true}, {lockers: 1, goroutines: 64, act: try}} {
		for _, trip := range []time.Duration{near, far} {
			for _, who := range []Contender{theirs(1), theirs(2)} {
				for _, next := range []time.Duration{20 * time.Millisecond, time.Second} {
					if err := s.tune(c, who, trip, func(at *site) { at.tryNextAfter = next }); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func tuner(p *park) *suite {
	return &suite{park: p, progress: os.Stderr, rounds: *rounds, warm: *length / 4, length: *length}
}

// tune measures one crowd with one setting.
func (s *suite) tune(c crowd, who Contender, trip time.Duration, set func(*site)) error {
	at, err := s.park.site(trip)
	if err != nil {
		return err
	}
	set(&at)
	sc := scenario{run: c.run, slot: always(2.5), lockers: c.lockers}
	var done []*round
	for range s.rounds {
		one, err := s.slot(sc, who, at)
		if err != nil {
			return err
		}
		done = append(done, one)
	}
	fmt.Printf("%3d x %2d, round trip %5v, retry %6v, try next %3v  %s\n", c.lockers, c.goroutines, trip, at.retry, at.tryNextAfter, pool(sc, trip, who, done).line())
	return nil
}
