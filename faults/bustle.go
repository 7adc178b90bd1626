package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Hundreds of requests under way, and calls that end before they are answered. What one caller gives
// up is nobody else's: those who are patient get what they ask for, and what is held stays held.
const (
	patientCalls   = 600 // at once, each for a name of its own
	impatientCalls = 20  // at once, each for 10 ms, over and over
	standing       = 20  // locks that are held all along
	impatience     = 10 * time.Millisecond
)

// bustle begins it. It ends with run.
func (b *bystander) bustle(run context.Context, all *sync.WaitGroup) {
	for i := range standing {
		all.Go(func() { b.stand(run, fmt.Sprint("standing ", b.Client, " ", i)) })
	}
	for i := range patientCalls {
		all.Go(func() { b.ply(run, fmt.Sprint("plied ", b.Client, " ", i)) })
	}
	for i := range impatientCalls {
		all.Go(func() { b.hurry(run, fmt.Sprint("hurried ", b.Client, " ", i)) })
	}
}

// stand holds a lock that nobody else wants.
func (b *bystander) stand(run context.Context, name string) {
	h, err := b.locker.Lock(context.Background(), name)
	if err != nil {
		b.blame("a lock that nobody else wants: %v", err)
		return
	}
	for run.Err() == nil && h.Alive() {
		sleep(run, glance)
	}
	if !h.Alive() {
		b.blame("a held lock was lost")
	}
	_ = h.Release() // an error is told above, or that the servers are slow
}

// ply takes a lock that nobody else wants, again and again.
func (b *bystander) ply(run context.Context, name string) {
	sleep(run, b.draw(0, validity/2))
	for run.Err() == nil {
		h, err := b.locker.Lock(context.Background(), name)
		if err != nil {
			b.blame("a patient call for a free lock: %v", unnamed(err, name))
			return
		}
		_ = h.Release()
	}
}

// hurry asks for locks, and is gone before there is an answer.
func (b *bystander) hurry(run context.Context, name string) {
	for n := 0; run.Err() == nil; n++ {
		ctx, cancel := context.WithTimeout(run, impatience)
		asked := time.Now()
		h, err := b.locker.Lock(ctx, fmt.Sprint(name, " ", n%100))
		if took := time.Since(asked); took > impatience+hanging {
			b.blame("a call with 10 ms took longer by %s", short(hanging))
		}
		if err == nil {
			_ = h.Release()
		} else if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			b.blame("a call whose context has ended: %v", unnamed(err, name))
		}
		cancel()
	}
}

// hanging is how much longer a call may take than its context lasts. It is for busy machines.
const hanging = 2 * time.Second
