package main

import (
	"fmt"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// failover kills primaries right after a lock was acquired, promotes the replica and looks whether it knows the lock: with
// AcquireOption.Replicas and without, on replication links of different speeds.
func failover(*lab.Server) error {
	for _, delay := range []time.Duration{0, 500 * time.Microsecond, 5 * time.Millisecond} {
		for replicas := range 2 {
			lost := 0
			var took []float64
			for range failovers {
				survived, d, err := failOver(delay, replicas)
				if err != nil {
					return err
				}
				if !survived {
					lost++
				}
				took = append(took, float64(d.Microseconds()))
			}
			fmt.Printf("  replication delayed by %6v, Replicas %d: %3d of %d locks lost; acquiring took %6.0f us\n", delay, replicas, lost, failovers, median(took))
		}
	}
	fmt.Println("  -> with Replicas 1: none lost")
	return nil
}

// failovers is how many primaries are killed for each line.
const failovers = 25

// failOver kills one primary and tells whether its replica knows the lock.
func failOver(delay time.Duration, replicas int) (survived bool, took time.Duration, err error) {
	pair, err := lab.StartReplicated(1, lab.Config{})
	if err != nil {
		return false, 0, err
	}
	defer pair.Stop()
	pair.Link(0).Delay(delay)
	l, err := ctxlock.NewLocker(ctxlock.LockerOption{KeyMajority: 1, ClientOption: client(pair.Primary.Addr())})
	if err != nil {
		return false, 0, err
	}
	defer l.Close()
	if _, warm, err := l.Acquire(background, "warm", ctxlock.AcquireOption{Replicas: replicas}); err != nil {
		return false, 0, err
	} else if err := warm.Release(background); err != nil {
		return false, 0, err
	}
	start := time.Now()
	if _, _, err = l.Acquire(background, "name", ctxlock.AcquireOption{Replicas: replicas}); err != nil {
		return false, 0, err
	}
	took = time.Since(start)
	pair.Primary.Kill()
	if err := pair.Promote(0); err != nil {
		return false, 0, err
	}
	c, err := valkey.NewClient(client(pair.Replicas[0].Addr()))
	if err != nil {
		return false, 0, err
	}
	defer c.Close()
	n, err := c.Do(background, c.B().Exists().Key("valkeylock:0:name").Build()).AsInt64()
	return n == 1, took, err
}
