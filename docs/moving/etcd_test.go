package moving

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/valkey-io/valkey-go"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/fence"
)

var errLost = errors.New("somebody else may have the lock")

// There is no etcd here to run its side with.
var _, _, _, _ = etcdWaits, etcdFenced, etcdLeads, etcdTable

func etcdWaits(ctx context.Context, endpoints []string) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints})
	if err != nil {
		return err
	}
	defer client.Close()
	session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	if err != nil {
		return err
	}
	defer session.Close()

	mutex := concurrency.NewMutex(session, "/invoice/4711")
	if err := mutex.Lock(ctx); err != nil {
		return err
	}
	defer mutex.Unlock(context.Background())
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(session.Ctx(), stop)()
	return work(ctx) // ctx ends when the session has
}

func ctxlockWaitsLikeEtcd(ctx context.Context, address string) error {
	locker, err := ctxlock.NewLocker(ctxlock.LockerOption{
		ClientOption: valkey.ClientOption{InitAddress: []string{address}},
		KeyMajority:  1, // for one server; the default is 2
		KeyValidity:  10 * time.Second,
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
	return work(ctx) // ctx ends before another can hold the lock: see Guarantee in README
}

func etcdFenced(ctx context.Context, client *clientv3.Client, mutex *concurrency.Mutex) error {
	done, err := client.Txn(ctx).If(mutex.IsOwner()).Then(clientv3.OpPut("/stock/42", "17")).Commit()
	if err != nil {
		return err
	}
	if !done.Succeeded {
		return errLost
	}
	return nil
}

func ctxlockFenced(ctx context.Context, locker ctxlock.Locker) error {
	ctx, lock, err := locker.Acquire(ctx, "stock/42", ctxlock.AcquireOption{Fencing: true})
	if err != nil {
		return err
	}
	defer lock.Release(context.Background())
	stock := fence.Resource{Client: locker.Client(), Key: "stock:42"}
	_, err = stock.Do(ctx, lock.Token(), "SET", "17")
	return err // fence.ErrStale: a later holder has been here
}

func etcdLeads(ctx context.Context, session *concurrency.Session, lead func(context.Context) error) error {
	election := concurrency.NewElection(session, "/leader")
	if err := election.Campaign(ctx, "host-7"); err != nil {
		return err
	}
	defer election.Resign(context.Background())
	return lead(ctx)
}

func ctxlockLeads(ctx context.Context, locker ctxlock.Locker, lead func(context.Context) error) error {
	ctx, lock, err := locker.Acquire(ctx, "leader", ctxlock.AcquireOption{Metadata: "host-7"})
	if err != nil {
		return err
	}
	defer lock.Release(context.Background())
	return lead(ctx)
}

// etcdTable is what the table shows of etcd.
func etcdTable(ctx context.Context, client *clientv3.Client, session *concurrency.Session, m *concurrency.Mutex, e *concurrency.Election) error {
	_, _ = concurrency.NewSession(client, concurrency.WithTTL(10), concurrency.WithLease(session.Lease()))
	if err := m.TryLock(ctx); err == concurrency.ErrLocked || err == concurrency.ErrSessionExpired || err == concurrency.ErrLockReleased {
		return err
	}
	_, _, _ = m.Key(), m.IsOwner(), m.Header().Revision
	<-session.Done()
	<-session.Ctx().Done()
	session.Orphan()
	_ = m.Lock(ctx)
	_, _ = e.Leader(ctx)
	_ = e.Proclaim(ctx, text)
	_ = e.Observe(ctx)
	_ = session.Close()
	return m.Unlock(ctx)
}

// ctxlockForEtcd is what it shows of ctxlock.
func ctxlockForEtcd(ctx context.Context, locker ctxlock.Locker) error {
	_, _, err := locker.TryWithContext(ctx, name)
	if errors.Is(err, ctxlock.ErrNotLocked) {
		return err
	}
	_ = ctxlock.LockerOption{KeyValidity: 10 * time.Second}
	_ = ctxlock.AcquireOption{Fencing: true}
	_ = ctxlock.AcquireOption{Replicas: 1}
	held, cancel, err := locker.WithContext(ctx, name)
	if err != nil {
		return err
	}
	lock := ctxlock.FromContext(held)
	_, _ = lock.Token(), lock.Name()
	_, _, _ = locker.AcquireAll(ctx, names, ctxlock.AcquireOption{})
	cancel()
	<-held.Done()
	if err := context.Cause(held); err == ctxlock.ErrReleased || errors.Is(err, ctxlock.ErrLost) {
		return err
	}
	_ = ctxlock.AcquireOption{From: lock.Value()}
	locker.Close()
	return lock.Release(ctx)
}

var _ = ctxlockForEtcd

func TestEtcdPagesCodeRuns(t *testing.T) {
	s := server(t)
	l := locker(t, s)
	ctx := t.Context()
	ok(t, ctxlockWaitsLikeEtcd(ctx, s.Addr()))
	ok(t, ctxlockFenced(ctx, l))
	ok(t, ctxlockLeads(ctx, l, func(ctx context.Context) error {
		status, err := l.Look(ctx, "leader")
		if status.Metadata != "host-7" {
			t.Errorf("%+v", status)
		}
		return err
	}))
}
