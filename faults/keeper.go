package main

import (
	"context"
	"io"
	"sync"
	"time"
)

// term is a holding of a library that leaves it to the application to extend it. Its calls come one at a time.
type term interface {
	// extend returns up to when the holding may be believed in.
	extend(ctx context.Context) (until time.Time, err error)
	// lost tells whether that error means that another may have the lock, or just that there was no answer.
	lost(err error) bool
	release(ctx context.Context) error
}

// keeper is a term with an application that takes care: it extends the term every third of the validity, and believes in it only for as
// long as the last extension allows.
type keeper struct {
	term
	validity time.Duration
	leave    context.CancelFunc // makes the goroutine release the term and end

	done   chan struct{} // closed by the goroutine at its end
	result error         // of the release; valid when done is closed

	mu    sync.Mutex // for what follows
	until time.Time  // zero: it is over
	cause error      // why it was not extended the last time
}

// run ends with ctx.
func (k *keeper) run(ctx context.Context) {
	defer close(k.done)
	tick := time.NewTicker(k.validity / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if k.Alive() {
				k.prolong(ctx)
			}
		case <-ctx.Done():
			k.end()
			bounded, cancel := context.WithTimeout(context.Background(), releasing)
			defer cancel()
			k.result = k.release(bounded)
			return
		}
	}
}

// prolong is one extension.
func (k *keeper) prolong(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, k.validity)
	defer cancel()
	until, err := k.extend(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cause = err
	switch {
	case err == nil && time.Now().Before(k.until):
		k.until = until
	case err == nil, k.lost(err): // without an error it comes too late: it may have been seen dead, and shall not come back to life
		k.until = time.Time{}
	}
}

// end is the end of belief.
func (k *keeper) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.until = time.Time{}
}

func (k *keeper) Alive() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.until)
}

func (k *keeper) Cause() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Now().Before(k.until) {
		return nil
	}
	return k.cause
}

func (k *keeper) Token() int64 { return 0 }

func (k *keeper) Release() error {
	k.end()
	k.leave()
	select {
	case <-k.done:
		return k.result
	case <-time.After(releasing): // the client goes by limits of its own, or it would be done
		return errUnreleased
	}
}

// keepers are those of one locker.
type keepers struct {
	open context.Context // ends when the locker closes
	shut context.CancelFunc

	mu  sync.Mutex // no keeper starts once open has ended
	all sync.WaitGroup
}

func newKeepers() *keepers {
	ks := new(keepers)
	ks.open, ks.shut = context.WithCancel(context.Background())
	return ks
}

// whileOpen is ctx, and ends with the locker, too.
func (ks *keepers) whileOpen(ctx context.Context) (context.Context, func()) {
	return either(ctx, ks.open)
}

// either is ctx, and ends with other, too.
func either(ctx, other context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(other, cancel)
	return ctx, func() { stop(); cancel() }
}

// keep starts a keeper of what has just been taken.
func (ks *keepers) keep(t term, until time.Time, validity time.Duration) (Holding, error) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if ks.open.Err() != nil { // there is no client any more to release it; it runs out
		return nil, errClosed
	}
	ctx, leave := context.WithCancel(ks.open)
	k := &keeper{term: t, validity: validity, leave: leave, done: make(chan struct{}), until: until}
	ks.all.Go(func() { k.run(ctx) })
	return k, nil
}

// close releases what is held and closes the clients, which cuts off those that get no answer.
func (ks *keepers) close(clients ...io.Closer) {
	ks.mu.Lock()
	ks.shut()
	ks.mu.Unlock()
	over := make(chan struct{})
	go func() {
		ks.all.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(releasing):
	}
	for _, c := range clients {
		_ = c.Close()
	}
	<-over
}
