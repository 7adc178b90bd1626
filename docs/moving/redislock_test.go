package moving

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
)

var errBusy = errors.New("somebody else is at it")

func redislockWaits(ctx context.Context, address string) error {
	client := redis.NewClient(&redis.Options{Addr: address})
	defer client.Close()
	locks := redislock.New(client)

	lock, err := locks.Obtain(ctx, "invoice/4711", time.Minute, &redislock.Options{
		RetryStrategy: redislock.LimitRetry(redislock.LinearBackoff(100*time.Millisecond), 50),
	})
	if errors.Is(err, redislock.ErrNotObtained) {
		return errBusy
	}
	if err != nil {
		return err
	}
	defer lock.Release(context.Background())
	return work(ctx) // if it may take more than a minute, something has to call lock.Refresh
}

func ctxlockWaits(ctx context.Context, address string) error {
	locker, err := ctxlock.NewLocker(ctxlock.LockerOption{
		ClientOption: valkey.ClientOption{InitAddress: []string{address}},
		KeyMajority:  1, // for one server; the default is 2
	})
	if err != nil {
		return err
	}
	defer locker.Close()

	ctx, lock, err := locker.Acquire(ctx, "invoice/4711", ctxlock.AcquireOption{
		Retry: ctxlock.LimitRetries(50, ctxlock.RetryFixed(100*time.Millisecond)),
	})
	if errors.Is(err, ctxlock.ErrNotLocked) {
		return errBusy
	}
	if err != nil {
		return err
	}
	defer lock.Release(context.Background())
	return work(ctx) // extended in the background; ctx ends if it is lost all the same
}

func redislockByHand(ctx context.Context, locks *redislock.Client) error {
	lock, err := locks.Obtain(ctx, "invoice/4711", time.Minute, nil)
	if err != nil {
		return err
	}
	defer lock.Release(context.Background())
	if err := work(ctx); err != nil {
		return err
	}
	if err := lock.Refresh(ctx, time.Minute, nil); err != nil {
		return err // redislock.ErrNotObtained: it was lost
	}
	return work(ctx)
}

func ctxlockByHand(ctx context.Context, locker ctxlock.Locker) error {
	ctx, lock, err := locker.Acquire(ctx, "invoice/4711", ctxlock.AcquireOption{
		Mode: ctxlock.Try, Validity: time.Minute, NoExtend: true,
	})
	if err != nil {
		return err
	}
	defer lock.Release(context.Background())
	if err := work(ctx); err != nil {
		return err
	}
	if err := lock.Extend(ctx, time.Minute); err != nil {
		return err // a *ctxlock.LostError: it was lost
	}
	return work(ctx)
}

// What the table shows is compiled only.
var _, _ = redislockTable, ctxlockForRedislock

// redislockTable is what it shows of redislock.
func redislockTable(ctx context.Context, c *redislock.Client, option *redislock.Options, s redislock.RetryStrategy, d, min, max time.Duration, n int) error {
	lock, err := c.Obtain(ctx, key, ttl, option)
	if err == redislock.ErrNotObtained || err == redislock.ErrLockNotHeld {
		return err
	}
	_, _ = c.Obtain(ctx, key, ttl, nil)
	_, _ = c.ObtainMulti(ctx, keys, ttl, nil)
	for _, s = range []redislock.RetryStrategy{redislock.NoRetry(), redislock.LinearBackoff(d), redislock.ExponentialBackoff(min, max), redislock.LimitRetry(s, n)} {
		_ = s.NextBackoff()
	}
	_ = redislock.Options{
		Token:    token,
		Metadata: text,
	}
	_, _, _, _ = lock.Key(), lock.Keys(), lock.Token(), lock.Metadata()
	_, _ = lock.TTL(ctx)
	_ = lock.Refresh(ctx, ttl, nil)
	return lock.Release(ctx)
}

// ctxlockForRedislock is what it shows of ctxlock.
func ctxlockForRedislock(ctx context.Context, locker ctxlock.Locker, option ctxlock.AcquireOption, p ctxlock.RetryPolicy, d, first, most time.Duration, n int) error {
	held, lock, err := locker.Acquire(ctx, name, option)
	if errors.Is(err, ctxlock.ErrNotLocked) || errors.Is(err, ctxlock.ErrLost) {
		return err
	}
	_ = ctxlock.LockerOption{KeyValidity: ttl}
	_ = ctxlock.AcquireOption{Mode: ctxlock.Try}
	_, _, _ = locker.AcquireAll(ctx, names, option)
	for _, p = range []ctxlock.RetryPolicy{ctxlock.NoRetry(), ctxlock.RetryFixed(d), ctxlock.RetryExponential(first, most), ctxlock.LimitRetries(n, p),
		ctxlock.SleepThrough(p), ctxlock.LimitRetryTime(d, p), ctxlock.RetryFunc(func(a ctxlock.Attempt) ctxlock.Retry { return ctxlock.Retry{After: d} })} {
		_ = ctxlock.AcquireOption{Retry: p}
	}
	_ = ctxlock.AcquireOption{
		Validity: ttl,
		Value:    token,
		Metadata: text,
	}
	_, _, _, _, _ = lock.Name(), lock.Each(), lock.Value(), lock.Metadata(), lock.Valid()
	_, _ = lock.TTL(ctx)
	_ = lock.Until()
	_ = lock.Extend(ctx, ttl)
	_, _ = locker.Look(ctx, name)
	_ = context.Cause(held)
	return lock.Release(ctx)
}

const key, name, token, text = "job", "job", "host-7", "since breakfast"

var (
	keys  = []string{"{job}1", "{job}2"}
	names = []string{"job 1", "job 2"}
)

func TestRedislockPagesCodeRuns(t *testing.T) {
	s := server(t)
	theirs, ours := redislock.New(client(t, s)), locker(t, s)
	ctx := t.Context()
	ok(t, redislockWaits(ctx, s.Addr()))
	ok(t, ctxlockWaits(ctx, s.Addr()))
	ok(t, redislockByHand(ctx, theirs))
	ok(t, ctxlockByHand(ctx, ours))
}

func TestWhatThePageSaysOfReleaseAfterExpiry(t *testing.T) {
	s := server(t)
	ctx := t.Context()
	theirs, err := redislock.New(client(t, s)).Obtain(ctx, key, ttl, nil)
	ok(t, err)
	held, ours, err := locker(t, s).Acquire(ctx, name, ctxlock.AcquireOption{Validity: ttl, NoExtend: true})
	ok(t, err)
	time.Sleep(2 * ttl)
	left, err := theirs.TTL(ctx)
	ok(t, err)
	if left != 0 {
		t.Error(left)
	}
	is(t, theirs.Refresh(ctx, ttl, nil), redislock.ErrNotObtained)
	is(t, theirs.Release(ctx), redislock.ErrLockNotHeld)
	_, err = ours.TTL(ctx)
	is(t, err, ctxlock.ErrLost)
	is(t, ours.Extend(ctx, ttl), ctxlock.ErrLost)
	var lost *ctxlock.LostError
	if err := ours.Release(ctx); !errors.As(err, &lost) || lost.Reason != ctxlock.Expired {
		t.Error(err)
	}
	is(t, context.Cause(held), ctxlock.ErrLost)
}

func TestWhatThePageSaysOfTokens(t *testing.T) {
	s := server(t)
	ctx := t.Context()
	theirs := redislock.New(client(t, s))
	_, err := theirs.Obtain(ctx, key, time.Minute, &redislock.Options{Token: token})
	ok(t, err)
	_, err = theirs.Obtain(ctx, key, time.Minute, &redislock.Options{Token: token})
	ok(t, err) // it has it twice
	l := locker(t, s)
	_, _, err = l.Acquire(ctx, name, ctxlock.AcquireOption{Mode: ctxlock.Try, Value: token})
	ok(t, err)
	_, _, err = l.Acquire(ctx, name, ctxlock.AcquireOption{Mode: ctxlock.Try, Value: token})
	is(t, err, ctxlock.ErrNotLocked)
}

func TestWhatThePageSaysOfWaits(t *testing.T) {
	s := server(t)
	ctx := t.Context()
	theirs, ours := redislock.New(client(t, s)), locker(t, s)
	old, err := theirs.Obtain(ctx, key, time.Minute, nil)
	ok(t, err)
	_, lock, err := ours.Acquire(ctx, name, ctxlock.AcquireOption{})
	ok(t, err) // the two do not exclude each other
	_, err = theirs.Obtain(ctx, key, ttl, &redislock.Options{RetryStrategy: redislock.LinearBackoff(ttl / 10)})
	is(t, err, context.DeadlineExceeded) // after ttl, though its context has no deadline
	ended, end := context.WithTimeout(ctx, ttl)
	defer end()
	_, _, err = ours.Acquire(ended, name, ctxlock.AcquireOption{})
	is(t, err, context.DeadlineExceeded)
	is(t, err, ctxlock.ErrNotLocked)
	ok(t, lock.Release(ended)) // under a context that has ended
	is(t, old.Release(ended), context.DeadlineExceeded)
}
