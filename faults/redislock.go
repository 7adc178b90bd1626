package main

import (
	"context"
	"errors"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

func redislocks() Contender {
	return Contender{
		Library: "redislock", Module: "github.com/bsm/redislock",
		Note: "On go-redis with its defaults; LinearBackoff of 50 ms. As its documentation advises for long work, the application calls Refresh " +
			"every third of the TTL; this one takes care, and also stops believing in a lock a TTL after it last asked for it with success.",
		Own: under("redislock:"),
		Open: func(at Place) (Locker, error) {
			c := goRedis(at)
			return &redislockLocker{newKeepers(), c, redislock.New(c), at.Validity}, nil
		},
	}
}

type redislockLocker struct {
	*keepers
	client   redis.UniversalClient
	locks    *redislock.Client
	validity time.Duration
}

func (l *redislockLocker) Lock(ctx context.Context, name string) (Holding, error) {
	ctx, stop := l.whileOpen(ctx)
	defer stop()
	for {
		p := newPace(50 * time.Millisecond)
		lock, err := l.locks.Obtain(ctx, "redislock:"+name, l.validity, &redislock.Options{RetryStrategy: p})
		if err == nil {
			return l.keep(&redislockTerm{lock, l.validity}, p.asked.Add(l.validity), l.validity)
		}
		// It waits no longer than the lock would live unless ctx has a deadline. That limit may strike in an attempt, too.
		limit := errors.Is(err, redislock.ErrNotObtained) || errors.Is(err, context.DeadlineExceeded)
		if !limit || ctx.Err() != nil {
			return nil, err
		}
	}
}

func (l *redislockLocker) Close() { l.close(l.client) }

// pace is a backoff that notes a time before each attempt: Obtain does not tell since when the TTL runs.
type pace struct {
	redislock.RetryStrategy
	asked time.Time
}

func newPace(pause time.Duration) *pace {
	return &pace{redislock.LinearBackoff(pause), time.Now()}
}

// NextBackoff is called when an attempt has failed, a pause before the next.
func (p *pace) NextBackoff() time.Duration {
	p.asked = time.Now()
	return p.RetryStrategy.NextBackoff()
}

type redislockTerm struct {
	lock *redislock.Lock
	ttl  time.Duration
}

func (t *redislockTerm) extend(ctx context.Context) (time.Time, error) {
	asked := time.Now()
	return asked.Add(t.ttl), t.lock.Refresh(ctx, t.ttl, nil)
}

func (t *redislockTerm) lost(err error) bool { return errors.Is(err, redislock.ErrNotObtained) }

func (t *redislockTerm) release(ctx context.Context) error { return t.lock.Release(ctx) }
