package ctxlock_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/memlock"
	"github.com/ctxlock/ctxlock/store"
)

// A lock that was passed on to a place in the queue, and is taken by force in the same Locker before the place knows of it, in fake time. What the
// place was told, or has read, is from before that then, whatever it is called that has told it.

// unheard is a wait of here in the queue, to whom there has passed the lock on. It hears of nothing; that word is kept.
type unheard struct {
	t     *testing.T
	link  *wire
	here  ctxlock.Locker
	words chan store.Event
	force atomic.Bool // the lock is to be taken by force when the place has been answered
	taken chan *ctxlock.Lock
}

// passUnheard has the lock passed on to a wait on some terms.
func passUnheard(t *testing.T, u *unheard, option ctxlock.AcquireOption) (waiter <-chan had) {
	server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
	u.t, u.link = t, &wire{Store: server.Store()}
	u.words, u.taken = make(chan store.Event, 10), make(chan *ctxlock.Lock, 1)
	u.link.lose = func(event store.Event) bool {
		if event.Word == store.PassedOn {
			u.words <- event
		}
		return true
	}
	u.here = onMemory(t, u.link, ctxlock.LockerOption{KeyMajority: 1})
	there := onMemory(t, server.Store(), ctxlock.LockerOption{KeyMajority: 1})
	_, release, err := there.WithContext(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan had, 1)
	go func() {
		ctx, lock, err := u.here.Acquire(forcing{t.Context(), u}, "x", option)
		if err != nil {
			t.Error(err)
		}
		got <- had{ctx, lock, time.Now()}
	}()
	time.Sleep(time.Second)
	release()
	return got
}

// forcing is a context whose end is asked for at the moment that matters.
type forcing struct {
	context.Context
	u *unheard
}

func (f forcing) Err() error {
	if f.u.force.CompareAndSwap(true, false) {
		f.u.takeByForce()
	}
	return f.Context.Err()
}

// takeByForce takes the lock by force.
func (u *unheard) takeByForce() {
	_, lock, err := u.here.Acquire(u.t.Context(), "x", ctxlock.AcquireOption{Mode: ctxlock.Force})
	if err != nil {
		u.t.Error(err)
	}
	u.taken <- lock
}

// keepsIt sees that the lock is with the one who took it by force until that one gives it back, and then with the wait.
func (u *unheard) keepsIt(waiter <-chan had) {
	u.t.Helper()
	lock := <-u.taken
	time.Sleep(time.Second)
	if err := lock.Err(); err != nil {
		u.t.Errorf("the lock that was taken by force has ended: %v", err)
	}
	select {
	case <-waiter:
		u.t.Error("the wait has got it before it was given back")
	default:
		_ = lock.Release(u.t.Context())
		_ = (<-waiter).lock.Release(u.t.Context())
	}
}

func TestForceBesideAPlaceThatReadsItsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unheard
		var once sync.Once
		waiter := passUnheard(t, &u, ctxlock.AcquireOption{})
		u.link.read = func(ops []store.Op) {
			if ops[0].Queue != "" && ops[0].Mine() {
				once.Do(u.takeByForce)
			}
		}
		u.keepsIt(waiter)
	})
}

func TestForceBesideAPlaceThatClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unheard
		var once sync.Once
		waiter := passUnheard(t, &u, ctxlock.AcquireOption{Fencing: true}) // which takes a claim
		u.link.claim = func(ctx context.Context, ops []store.Op) bool {
			u.link.Store.Claim(ctx, ops)
			if ops[0].Queue != "" && ops[0].Mine() {
				once.Do(func() { u.force.Store(true) })
			}
			return true
		}
		u.keepsIt(waiter)
	})
}

func TestForceBesideAPlaceThatHearsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unheard
		waiter := passUnheard(t, &u, ctxlock.AcquireOption{})
		word := <-u.words
		u.takeByForce()
		u.link.tell(store.Event{Key: word.Key, Word: store.Look}) // it claims, and finds out
		time.Sleep(100 * time.Millisecond)
		u.link.tell(word)
		u.keepsIt(waiter)
	})
}
