package main

import (
	"context"
	"errors"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

// consensus is etcd's mutex.
func consensus() Contender {
	return Contender{
		Library: "etcd", Module: "go.etcd.io/etcd/client/v3", Extends: true,
		Note: "concurrency.Mutex, a session for each that wait for one name, otherwise one a client; one server, fsync as by default",
		Open: func(at site) (Locker, error) {
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{at.etcd}, DialTimeout: patience, Logger: zap.NewNop()})
			if err != nil {
				return nil, err
			}
			l := &etcdLocker{client: c, taken: make(map[string]map[int]bool)}
			if _, err := l.session(0); err != nil { // connects
				l.Close()
				return nil, err
			}
			return l, nil
		},
	}
}

// etcdLocker is one client. A session cannot exclude itself, so goroutines that want one name at once have a session each; for
// different names they share one.
type etcdLocker struct {
	client *clientv3.Client

	mu       sync.Mutex
	sessions []*concurrency.Session
	taken    map[string]map[int]bool // by name, which sessions lock it or wait for it
}

// session returns the session of that index, and makes it if it is the next.
func (l *etcdLocker) session(i int) (*concurrency.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.sessions) <= i {
		s, err := concurrency.NewSession(l.client)
		if err != nil {
			return nil, err
		}
		l.sessions = append(l.sessions, s)
	}
	return l.sessions[i], nil
}

// take reserves the first session that nobody uses for the name.
func (l *etcdLocker) take(name string) (free func(), i int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	used := l.taken[name]
	if used == nil {
		used = make(map[int]bool)
		l.taken[name] = used
	}
	for used[i] {
		i++
	}
	used[i] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if delete(used, i); len(used) == 0 {
			delete(l.taken, name)
		}
	}, i
}

func (l *etcdLocker) Lock(ctx context.Context, name string) (func(), error) {
	return l.acquire(name, func(m *concurrency.Mutex) error { return m.Lock(ctx) })
}

func (l *etcdLocker) TryLock(ctx context.Context, name string) (func(), error) {
	return l.acquire(name, func(m *concurrency.Mutex) error {
		err := m.TryLock(ctx)
		if errors.Is(err, concurrency.ErrLocked) {
			err = errHeld
		}
		return err
	})
}

func (l *etcdLocker) acquire(name string, lock func(*concurrency.Mutex) error) (func(), error) {
	free, i := l.take(name)
	s, err := l.session(i)
	if err == nil {
		m := concurrency.NewMutex(s, "/bench/"+name)
		if err = lock(m); err == nil {
			return func() { _ = m.Unlock(background); free() }, nil
		}
	}
	free()
	return nil, err
}

// Close does not wait for the sessions' leases to be revoked one by one: they end with the server.
func (l *etcdLocker) Close() { _ = l.client.Close() }
