package main

import (
	"context"
	"errors"
	"io"
	"math"
	"time"

	"github.com/go-redsync/redsync/v4"
	redsyncpool "github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
)

func redsyncs() Contender {
	return Contender{
		Library: "redsync", Module: "github.com/go-redsync/redsync/v4",
		Note: "On go-redis with its defaults; tries without end. The application calls Extend every third of the expiry and goes by Until; " +
			"on independent nodes WithFailFast, without which one node that does not answer holds up every call.",
		Own: under("redsync:"),
		Open: func(at Place) (Locker, error) {
			l := &redsyncLocker{keepers: newKeepers(), at: at}
			var pools []redsyncpool.Pool
			for _, deployment := range deployments(at) {
				c := goRedis(deployment)
				l.clients = append(l.clients, c)
				pools = append(pools, goredis.NewPool(c))
			}
			l.locks = redsync.New(pools...)
			return l, nil
		},
	}
}

// deployments are what makes a pool each.
func deployments(at Place) []Place {
	if at.Kind != Nodes {
		return []Place{at}
	}
	var nodes []Place
	for _, address := range at.Servers {
		nodes = append(nodes, Place{Kind: Single, Servers: []string{address}})
	}
	return nodes
}

type redsyncLocker struct {
	*keepers
	clients []io.Closer
	locks   *redsync.Redsync
	at      Place
}

func (l *redsyncLocker) Lock(ctx context.Context, name string) (Holding, error) {
	ctx, stop := l.whileOpen(ctx)
	defer stop()
	m := l.locks.NewMutex("redsync:"+name, redsync.WithExpiry(l.at.Validity), redsync.WithTries(math.MaxInt32),
		redsync.WithFailFast(l.at.Kind == Nodes))
	if err := m.LockContext(ctx); err != nil {
		return nil, errors.Join(err, ctx.Err()) // it does not say itself that ctx has ended
	}
	return l.keep(redsyncTerm{m}, m.Until(), l.at.Validity)
}

func (l *redsyncLocker) Close() { l.close(l.clients...) }

type redsyncTerm struct{ *redsync.Mutex }

func (t redsyncTerm) extend(ctx context.Context) (time.Time, error) {
	_, err := t.ExtendContext(ctx)
	return t.Until(), err
}

// lost: a majority has another's value, or none.
func (t redsyncTerm) lost(err error) bool {
	var taken *redsync.ErrTaken
	return errors.As(err, &taken)
}

func (t redsyncTerm) release(ctx context.Context) error {
	_, err := t.UnlockContext(ctx)
	return err
}
