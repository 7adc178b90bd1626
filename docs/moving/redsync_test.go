package moving

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/go-redsync/redsync/v4"
	redsyncredis "github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

func redsyncQuorum(ctx context.Context, addresses []string, expiry time.Duration) error {
	var pools []redsyncredis.Pool
	for _, address := range addresses {
		client := redis.NewClient(&redis.Options{Addr: address})
		defer client.Close()
		pools = append(pools, goredis.NewPool(client))
	}
	rs := redsync.New(pools...)

	mutex := rs.NewMutex("invoice/4711", redsync.WithExpiry(expiry))
	if err := mutex.LockContext(ctx); err != nil {
		return err
	}
	defer mutex.Unlock()
	return work(ctx) // until mutex.Until(), unless something calls mutex.Extend
}

func ctxlockQuorum(ctx context.Context, addresses []string, expiry time.Duration) error {
	var nodes []valkey.ClientOption
	for _, address := range addresses {
		nodes = append(nodes, valkey.ClientOption{InitAddress: []string{address}})
	}
	locker, err := ctxlock.NewRedlock(ctxlock.RedlockOption{
		LockerOption:   ctxlock.LockerOption{KeyValidity: expiry},
		Nodes:          nodes, // an odd number, in the same order everywhere
		DelayedRestart: true,
	})
	if err != nil {
		return err
	}
	defer locker.Close()

	ctx, cancel, err := locker.WithContext(ctx, "invoice/4711")
	if err != nil {
		return err
	}
	defer cancel()
	return work(ctx) // extended in the background; ctx ends if the majority is lost
}

func redsyncErrors(mutex *redsync.Mutex) string {
	err := mutex.TryLock()
	var taken *redsync.ErrTaken
	var broken *redsync.RedisError
	switch {
	case err == nil:
		return "locked"
	case errors.As(err, &taken): // taken.Nodes are indexes
		return "held by another on a majority"
	case errors.As(err, &broken): // broken.Node is an index; errors.As finds the first of them
		return "a node failed"
	default: // several redsync.ErrNodeTaken, redsync.ErrFailed
		return "no majority"
	}
}

func ctxlockErrors(ctx context.Context, locker ctxlock.Locker) string {
	_, cancel, err := locker.TryWithContext(ctx, "invoice/4711")
	defer cancel() // never nil
	var quorum *ctxlock.QuorumError
	switch {
	case err == nil:
		return "locked"
	case errors.As(err, &quorum) && quorum.ToOthers(): // quorum.Nodes says it of each node
		return "held by others on a majority"
	case errors.As(err, &quorum) && quorum.ToFailures():
		return "a majority failed"
	default:
		return "no majority"
	}
}

// ctxlockTries is redsync's way to wait: 32 tries, 50 to 250 ms apart.
func ctxlockTries() ctxlock.AcquireOption {
	return ctxlock.AcquireOption{
		Retry: ctxlock.SleepThrough(ctxlock.LimitRetries(31, ctxlock.RetryFunc(func(ctxlock.Attempt) ctxlock.Retry {
			return ctxlock.Retry{Again: true, After: 50*time.Millisecond + rand.N(200*time.Millisecond)}
		}))),
	}
}

// What the table shows is compiled only.
var _, _ = redsyncTable, ctxlockForRedsync

// redsyncTable is what it shows of redsync.
func redsyncTable(ctx context.Context, rs *redsync.Redsync, m *redsync.Mutex, d time.Duration, n int, f float64) error {
	for _, o := range []redsync.Option{redsync.WithExpiry(d), redsync.WithTries(n), redsync.WithRetryDelay(d), redsync.WithDriftFactor(f), redsync.WithTimeoutFactor(f),
		redsync.WithRetryDelayFunc(func(int) time.Duration { return d }), redsync.WithGenValueFunc(func() (string, error) { return token, nil }),
		redsync.WithValue(token), redsync.WithSetNXOnExtend(), redsync.WithFailFast(true), redsync.WithShufflePools(true)} {
		m = rs.NewMutex(name, o)
	}
	_, _, _ = m.TryLockContext(ctx), m.LockContext(ctx), m.Lock()
	_, _, _ = m.Name(), m.Value(), m.Until()
	_, _ = m.ExtendContext(ctx)
	_, err := m.UnlockContext(ctx)
	if errors.Is(err, redsync.ErrLockAlreadyExpired) || err == redsync.ErrFailed || err == redsync.ErrExtendFailed {
		return err
	}
	return redsync.ErrNodeTaken{}
}

// ctxlockForRedsync is what it shows of ctxlock.
func ctxlockForRedsync(ctx context.Context, locker ctxlock.Locker, d time.Duration, n int, p ctxlock.RetryPolicy, f float64) error {
	_ = ctxlock.AcquireOption{
		Validity:  d,
		Retry:     ctxlock.LimitRetries(n-1, p),
		ValueFunc: func() (string, error) { return token, nil },
	}
	_ = ctxlock.LockerOption{KeyValidity: d, TryNextAfter: d}
	_, _ = ctxlock.NewRedlock(ctxlock.RedlockOption{DriftFactor: f, TimeoutFactor: f})
	_, lock, err := locker.Acquire(ctx, name, ctxlock.AcquireOption{Retry: ctxlock.RetryFixed(d)})
	if err != nil {
		return err
	}
	_, _, _ = locker.TryWithContext(ctx, name)
	_, _, _ = locker.WithContext(ctx, name)
	_, _, _, _ = lock.Name(), lock.Value(), lock.Until(), lock.Valid()
	_ = lock.Extend(ctx, d)
	return lock.Release(ctx)
}

func TestRedsyncPagesCodeRuns(t *testing.T) {
	var addresses []string
	var all []*lab.Server
	for range 3 {
		s := server(t)
		all = append(all, s)
		addresses = append(addresses, s.Addr())
	}
	ctx := t.Context()
	ok(t, redsyncQuorum(ctx, addresses, time.Second))
	ok(t, ctxlockQuorum(ctx, addresses, time.Second))

	theirs := redsync.New(goredis.NewPool(client(t, all[0])), goredis.NewPool(client(t, all[1])), goredis.NewPool(client(t, all[2])))
	var nodes []valkey.ClientOption
	for _, address := range addresses {
		nodes = append(nodes, valkey.ClientOption{InitAddress: []string{address}})
	}
	ours, err := ctxlock.NewRedlock(ctxlock.RedlockOption{Nodes: nodes})
	ok(t, err)
	t.Cleanup(ours.Close)
	try := func(step, wantTheirs, wantOurs string) {
		t.Helper()
		mutex := theirs.NewMutex("invoice/4711")
		if got := redsyncErrors(mutex); got != wantTheirs {
			t.Errorf("%s: redsync: %s", step, got)
		}
		_, _ = mutex.Unlock()
		if got := ctxlockErrors(ctx, ours); got != wantOurs {
			t.Errorf("%s: ctxlock: %s", step, got)
		}
	}
	try("free", "locked", "locked")
	held := theirs.NewMutex("invoice/4711", redsync.WithExpiry(time.Minute))
	ok(t, held.Lock())
	_, lock, err := ours.Acquire(ctx, "invoice/4711", ctxlockTries())
	ok(t, err)
	try("held", "held by another on a majority", "held by others on a majority")
	ok(t, lock.Release(ctx))
	// From elsewhere, by its value.
	if done, err := theirs.NewMutex("invoice/4711", redsync.WithValue(held.Value())).Unlock(); !done {
		t.Error(err)
	}
	all[0].Stop()
	try("one node down", "locked", "locked")
	all[1].Stop()
	try("two nodes down", "a node failed", "a majority failed")
}

func TestWhatThePageSaysOfUnlockAfterExpiry(t *testing.T) {
	s := server(t)
	rs := redsync.New(goredis.NewPool(client(t, s)))
	ok(t, rs.NewMutex("held", redsync.WithExpiry(time.Minute)).Lock())
	ctx, end := context.WithTimeout(t.Context(), ttl)
	defer end()
	is(t, rs.NewMutex("held").LockContext(ctx), redsync.ErrFailed) // of ctx's end it says nothing
	mutex := rs.NewMutex(name, redsync.WithExpiry(ttl))
	ok(t, mutex.Lock())
	time.Sleep(2 * ttl)
	done, err := mutex.Unlock()
	is(t, err, redsync.ErrLockAlreadyExpired)
	if done {
		t.Error("unlocked")
	}
	done, err = mutex.Extend()
	var taken *redsync.ErrTaken
	if done || !errors.As(err, &taken) { // though nobody has taken it
		t.Error(done, err)
	}
}
