package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-redsync/redsync/v4"
	redsyncpool "github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

// onPools is redsync on that many servers. Several pools for one server would be no majority of anything: it uses one key.
func onPools(n int) Contender {
	setup, pauses := "1 server", retries
	if n > 1 {
		setup, pauses = fmt.Sprintf("%d servers", n), strings.Replace(retries, "1ms", "5ms", 1)
	}
	return Contender{
		Library: "redsync", Setup: setup, Module: "github.com/go-redsync/redsync/v4", AllServers: n > 1,
		Note: "on go-redis with " + pools + "; FailFast, tries without end, half to one and a half of " + pauses + " apart",
		Open: func(at site) (Locker, error) {
			l := &redsyncLocker{retry: retryOf(at)}
			if n > 1 && at.retry == 0 { // two that get in each other's way on several servers take longer to part
				l.retry = max(l.retry, 5*time.Millisecond)
			}
			var pools []redsyncpool.Pool
			for _, address := range at.valkey[:n] {
				c := goRedis(at, address)
				l.clients = append(l.clients, c)
				pools = append(pools, goredis.NewPool(c))
			}
			l.locks = redsync.New(pools...)
			return l, nil
		},
	}
}

type redsyncLocker struct {
	clients []*redis.Client
	locks   *redsync.Redsync
	retry   time.Duration
}

func (l *redsyncLocker) mutex(name string) *redsync.Mutex {
	return l.locks.NewMutex("redsync:"+name, redsync.WithTries(math.MaxInt32), redsync.WithFailFast(true),
		redsync.WithRetryDelayFunc(func(int) time.Duration { return l.retry/2 + rand.N(l.retry) }))
}

func (l *redsyncLocker) Lock(ctx context.Context, name string) (func(), error) {
	m := l.mutex(name)
	return l.unlock(m), m.LockContext(ctx)
}

func (l *redsyncLocker) TryLock(ctx context.Context, name string) (func(), error) {
	m := l.mutex(name)
	err := m.TryLockContext(ctx)
	if taken := (*redsync.ErrTaken)(nil); errors.As(err, &taken) {
		err = errHeld
	}
	return l.unlock(m), err
}

func (l *redsyncLocker) unlock(m *redsync.Mutex) func() {
	return func() { _, _ = m.UnlockContext(background) }
}

func (l *redsyncLocker) Close() {
	for _, c := range l.clients {
		_ = c.Close()
	}
}
