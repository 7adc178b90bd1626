package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// pair is one way of doing the same thing, for studies that compare calls and not libraries.
type pair struct {
	name string
	// do acquires and releases the name once.
	do func(name string) error
}

// race runs the pairs in alternating rounds and gives the median rate of each, in pairs a second.
func race(workers int, pairs ...pair) ([]float64, error) {
	rates := make([][]float64, len(pairs))
	for range *rounds {
		for i, p := range pairs {
			runtime.GC()
			rate, err := repeat(workers, p.do)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			rates[i] = append(rates[i], rate)
		}
	}
	medians := make([]float64, len(pairs))
	for i := range rates {
		medians[i] = median(rates[i])
	}
	return medians, nil
}

// repeat has each worker do pairs on a name of its own.
func repeat(workers int, do func(string) error) (rate float64, err error) {
	var done atomic.Int64
	var group sync.WaitGroup
	failures := make(chan error, workers)
	start := time.Now()
	for w := range workers {
		group.Go(func() {
			name := fmt.Sprintf("worker %d", w)
			for time.Since(start) < *length {
				if err := do(name); err != nil {
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

// compareTo prints a ratio beside what it should be.
func compareTo(what string, value float64, target string) {
	fmt.Printf("  -> %-58s %5.2f   (%s)\n", what, value, target)
}
