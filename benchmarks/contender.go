package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"
	"github.com/valkey-io/valkey-go/valkeylock"

	"github.com/ctxlock/ctxlock"
)

// contender is one way of doing the same thing.
type contender struct {
	name string
	// pair acquires and releases the name once.
	pair func(name string) error
	stop func()
}

var background = context.Background()

// ours is ctxlock.
func ours(address string, majority int32) (contender, error) {
	l, err := ctxlock.NewLocker(ctxlock.LockerOption{KeyMajority: majority, NoLoopTracking: true, KeyPrefix: "ours", ClientOption: client(address)})
	if err != nil {
		return contender{}, err
	}
	return contender{fmt.Sprintf("ctxlock, majority %d", majority), pairOf(l), l.Close}, nil
}

// theirs is valkeylock.
func theirs(address string, majority int32) (contender, error) {
	// Its default for TryNextAfter, 20 ms, makes it fail on a busy machine.
	l, err := valkeylock.NewLocker(valkeylock.LockerOption{KeyMajority: majority, NoLoopTracking: true, TryNextAfter: time.Second, KeyPrefix: "theirs", ClientOption: client(address)})
	if err != nil {
		return contender{}, err
	}
	return contender{fmt.Sprintf("valkeylock, majority %d", majority), pairOf(l), l.Close}, nil
}

func pairOf(l valkeylock.Locker) func(string) error {
	return func(name string) error {
		_, release, err := l.TryWithContext(background, name)
		if err == nil {
			release()
		}
		return err
	}
}

// bare is the least that a lock could be: SET NX and DEL, with a client that is built the same way.
func bare(address string) (contender, error) {
	option := client(address)
	option.PipelineMultiplex = -1
	option.ClientTrackingOptions = []string{"OPTOUT", "NOLOOP"}
	option.OnInvalidations = func([]valkey.ValkeyMessage) {}
	c, err := valkey.NewClient(option)
	if err != nil {
		return contender{}, err
	}
	pair := func(name string) error {
		key := "bare:0:" + name
		if err := c.Do(background, c.B().Set().Key(key).Value("owner value of some length").Nx().PxMilliseconds(5000).Build()).Error(); err != nil {
			return err
		}
		return c.Do(background, c.B().Del().Key(key).Build()).Error()
	}
	return contender{"SET NX + DEL", pair, c.Close}, nil
}

func client(address string) valkey.ClientOption {
	return valkey.ClientOption{InitAddress: []string{address}}
}

// race runs the contenders in alternating rounds and gives the median rate of each, in pairs a second.
func race(workers int, contenders ...contender) ([]float64, error) {
	rates := make([][]float64, len(contenders))
	for range *rounds {
		for i, c := range contenders {
			runtime.GC()
			rate, err := measure(workers, c.pair)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			rates[i] = append(rates[i], rate)
		}
	}
	medians := make([]float64, len(contenders))
	for i := range rates {
		medians[i] = median(rates[i])
	}
	return medians, nil
}

// measure has each worker do pairs on a name of its own.
func measure(workers int, pair func(string) error) (rate float64, err error) {
	var done atomic.Int64
	var group sync.WaitGroup
	failures := make(chan error, workers)
	start := time.Now()
	for w := range workers {
		group.Go(func() {
			name := fmt.Sprintf("worker %d", w)
			for time.Since(start) < *length {
				if err := pair(name); err != nil {
					failures <- err
					return
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	close(failures)
	for e := range failures {
		err = errors.Join(err, e)
	}
	return float64(done.Load()) / time.Since(start).Seconds(), err
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// stopAll stops contenders.
func stopAll(contenders []contender) {
	for _, c := range contenders {
		c.stop()
	}
}
