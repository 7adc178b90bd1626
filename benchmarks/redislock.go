package main

import (
	"context"
	"errors"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

// ttl is how long a lock of redislock lives; the others' default. Nothing here holds one longer.
const ttl = 5 * time.Second

func bsm() Contender {
	return Contender{
		Library: "redislock", Module: "github.com/bsm/redislock",
		Note: "on go-redis with " + pools + "; LinearBackoff of " + retries,
		Open: func(at site) (Locker, error) {
			c := goRedis(at, at.valkey[0])
			return &redislockLocker{c, redislock.New(c), &redislock.Options{RetryStrategy: redislock.LinearBackoff(retryOf(at))}}, nil
		},
	}
}

// goRedis connects when it is used.
func goRedis(at site, address string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: address, PoolSize: poolSizeOf(at), DialTimeout: patience, ReadTimeout: patience, PoolTimeout: patience})
}

// silent is a log for go-redis, which remarks on connections that are closed while somebody waits for them, as at the end of each round.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

type redislockLocker struct {
	client *redis.Client
	locks  *redislock.Client
	wait   *redislock.Options
}

func (l *redislockLocker) Lock(ctx context.Context, name string) (func(), error) {
	for {
		lock, err := l.locks.Obtain(ctx, "redislock:"+name, ttl, l.wait)
		// It waits no longer than the lock would live, whatever the context allows.
		if errors.Is(err, redislock.ErrNotObtained) && ctx.Err() == nil {
			continue
		}
		return l.unlock(lock), err
	}
}

func (l *redislockLocker) TryLock(ctx context.Context, name string) (func(), error) {
	lock, err := l.locks.Obtain(ctx, "redislock:"+name, ttl, nil)
	if errors.Is(err, redislock.ErrNotObtained) {
		err = errHeld
	}
	return l.unlock(lock), err
}

func (l *redislockLocker) unlock(lock *redislock.Lock) func() {
	return func() { _ = lock.Release(background) }
}

func (l *redislockLocker) Close() { _ = l.client.Close() }
