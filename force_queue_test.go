package ctxlock_test

import (
	"context"
	"slices"
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

	read  func([]store.Op) // as the wire's; set before there is one
	claim func(context.Context, []store.Op) bool
}

// passUnheard has the lock passed on to a wait on some terms.
func passUnheard(t *testing.T, u *unheard, option ctxlock.AcquireOption) (waiter <-chan had) {
	server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
	u.t, u.link = t, &wire{Store: server.Store(), read: u.read, claim: u.claim}
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
		u.read = func(ops []store.Op) {
			if ops[0].Queue != "" && ops[0].Mine() {
				once.Do(u.takeByForce)
			}
		}
		u.keepsIt(passUnheard(t, &u, ctxlock.AcquireOption{}))
	})
}

func TestForceBesideAPlaceThatClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unheard
		var once sync.Once
		u.claim = func(ctx context.Context, ops []store.Op) bool {
			u.link.Store.Claim(ctx, ops)
			if ops[0].Queue != "" && ops[0].Mine() {
				once.Do(func() { u.force.Store(true) })
			}
			return true
		}
		u.keepsIt(passUnheard(t, &u, ctxlock.AcquireOption{Fencing: true})) // which takes a claim
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

// A claim that was overtaken looks at its keys again. One on a node that does not answer then is its own all the same, and is released.
func TestAKeyThatIsNotConfirmedIsReleased(t *testing.T) {
	const name = "c" // each of its keys is on another lane
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Lanes: 3, Latency: time.Millisecond})
		link := &wire{Store: server.Store()}
		link.deaf.Store(true) // an event would have it look once more
		l := onMemory(t, link, ctxlock.LockerOption{KeyMajority: 2, KeyValidity: time.Minute})
		goes, answer := []chan struct{}{make(chan struct{}), make(chan struct{})}, []chan struct{}{make(chan struct{}), make(chan struct{})}
		silent := make(chan struct{})
		var mu sync.Mutex
		var owners []string
		link.claim = func(ctx context.Context, ops []store.Op) bool {
			mu.Lock()
			i := slices.Index(owners, ops[0].Owner)
			if i < 0 {
				i, owners = len(owners), append(owners, ops[0].Owner)
			}
			mu.Unlock()
			<-goes[i]
			link.Store.Claim(ctx, ops)
			<-answer[i]
			return true
		}
		link.read = func(ops []store.Op) {
			if ops[0].Key == "valkeylock:2:"+name {
				<-silent
			}
		}
		var got [2]<-chan *ctxlock.Lock
		for i := range got {
			taken := make(chan *ctxlock.Lock, 1)
			got[i] = taken
			go func() {
				_, lock, err := l.Acquire(t.Context(), name, ctxlock.AcquireOption{Mode: ctxlock.Force})
				if err != nil {
					t.Error(err)
				}
				taken <- lock
			}()
			synctest.Wait()
		}
		for _, next := range []chan struct{}{goes[1], goes[0], answer[1], answer[0]} { // the second is answered first, and has lost it by then
			close(next)
			time.Sleep(10 * time.Millisecond)
		}
		first, second := <-got[0], <-got[1]
		if first.Err() != nil || second.Err() == nil {
			t.Errorf("%v and %v, want the first alone", first.Err(), second.Err())
		}
		_ = first.Release(t.Context())
		_ = second.Release(t.Context())
		close(silent)
		time.Sleep(time.Second)
		if keys := server.Keys(); len(keys) > 0 {
			t.Errorf("left: %q", keys)
		}
	})
}
