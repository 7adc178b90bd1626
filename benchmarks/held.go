package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

const (
	heldCount = 10_000
	// heldFor is whole intervals of extending, whatever -time is: many libraries extend all locks together.
	heldFor = 3 * time.Second
)

// holdMany holds 10,000 locks, extended every second where the library lets one say so, and asks what that costs while nothing else
// happens. An operation is a lock held for a second.
func holdMany(who Contender, on bench, name string) (*round, error) {
	on.site.validity, on.site.interval = 10*time.Second, time.Second
	l, err := who.Open(on.site)
	if err != nil {
		return nil, err
	}
	defer closeAll([]Locker{l})
	goroutines, memory := runtime.NumGoroutine(), heap()
	unlocks, err := holdAll(l, name)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", who, err)
	}
	defer unlockAll(unlocks)
	r := &round{handoffs: -1, noRate: true, memory: float64(heap()-memory) / heldCount}
	time.Sleep(2 * time.Second) // all have been extended once, and are spread as they will be
	r.goroutines = max(0, float64(runtime.NumGoroutine()-goroutines)/heldCount)
	before := on.meter.read()
	time.Sleep(heldFor)
	r.usage = on.meter.between(before, on.meter.read())
	r.ops = []int{int(heldCount * r.usage.time.Seconds())}
	r.seen.failures, r.seen.err = countLost(who, on.site, name)
	return r, nil
}

// atOnce is how many calls are under way while locks are taken and given back.
const atOnce = 16

// each calls f for many numbers, some at a time.
func each(n int, f func(i int) error) error {
	failures := make([]error, n)
	slots := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		group.Go(func() {
			failures[i] = f(i)
			<-slots
		})
	}
	group.Wait()
	return errors.Join(failures...)
}

func holdAll(l Locker, name string) ([]func(), error) {
	unlocks := make([]func(), heldCount)
	return unlocks, each(heldCount, func(i int) (err error) {
		unlocks[i], err = l.Lock(background, fmt.Sprintf("%s/%d", name, i))
		return err
	})
}

func unlockAll(unlocks []func()) {
	_ = each(len(unlocks), func(i int) error { unlocks[i](); return nil })
}

// countLost has another locker try some of the names: each must be held still.
func countLost(who Contender, at site, name string) (lost int, err error) {
	other, err := who.Open(at)
	if err != nil {
		return 0, err
	}
	defer other.Close()
	for i := 0; i < heldCount; i += heldCount / 50 {
		if _, e := other.TryLock(background, fmt.Sprintf("%s/%d", name, i)); !errors.Is(e, errHeld) {
			lost++
			err = fmt.Errorf("lock %d: %v, not held", i, e)
		}
	}
	return lost, err
}

// heap is the memory in use, stacks included.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc) + int64(stats.StackInuse)
}
