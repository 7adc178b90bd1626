package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/store"
)

// What the servers can do is found out when a Locker is made. A stall at that moment must not
// decide how the Locker works for the rest of its life: a question that has no answer is asked
// again, in the background, until it has one. Only an answer is final.

// finding is what is known of something that the servers may be able to do.
type finding int32

const (
	unasked finding = iota // or not answered
	able
	unable
)

// probeTime is how long making a Locker waits, once it is connected, for what the servers say of
// themselves, and how long each question is waited for.
const probeTime = 2 * time.Second

// question asks the servers for something, and notes their answer. Its error is why there is none,
// or the answer.
type question func(ctx context.Context) error

// find asks questions, one after the other, each until it is answered. The channel is closed when
// all are, and never if the store is closed before.
func (s *valkeyStore) find(questions ...question) (found <-chan struct{}) {
	done := make(chan struct{})
	s.topology.work.Go(func() {
		for _, q := range questions {
			pause := backoff{first: leastReconnect, most: mostReconnect}
			for !s.answers(q) {
				if !s.tracker.pause(pause.next()) {
					return
				}
			}
		}
		close(done)
	})
	return done
}

// answers asks once, and tells whether there was an answer.
func (s *valkeyStore) answers(q question) bool {
	ctx, cancel := context.WithTimeout(s.tracker.life, probeTime)
	defer cancel()
	err := q(ctx)
	if !isAnswer(err) {
		s.silence.Store(&err)
		return false
	}
	return true
}

// isAnswer tells whether an error, or its absence, is what the server says, and not that it could
// not say it: that it did not answer in time, or refuses for a while.
func isAnswer(err error) bool {
	if err == nil || valkey.IsValkeyNil(err) || store.IsPermanent(err) {
		return true
	}
	if said := refusalOf(err); said != "" {
		return !mendable(said)
	}
	return errors.Is(err, valkey.ErrClosing) || errors.Is(err, valkey.ErrNoCache) || errors.Is(err, errStrange)
}

// await waits for something to be found, for so long after the client was connected. It tells
// whether it was.
func (s *valkeyStore) await(found <-chan struct{}, most time.Duration) bool {
	timer := time.NewTimer(time.Until(s.opened) + most)
	defer timer.Stop()
	select {
	case <-found:
		return true
	default:
	}
	select {
	case <-found:
		return true
	case <-timer.C:
	case <-s.tracker.life.Done():
	}
	return false
}

// undecided is what OnFallback is told while there is no answer.
type undecided struct{ last error }

func (u *undecided) Error() string {
	return fmt.Sprintf("there is no answer yet, and it is asked again until there is: %v", u.last)
}

// Unwrap gives what the servers could not be asked for, unless that would be taken for the end of a
// caller's context.
func (u *undecided) Unwrap() error {
	if isContextError(u.last) {
		return notTheCallers{u.last}
	}
	return u.last
}

// noAnswer is why what is not known yet is not known.
func (s *valkeyStore) noAnswer() error {
	last := error(errNoAnswer)
	if silence := s.silence.Load(); silence != nil {
		last = *silence
	}
	return &undecided{last}
}

// findTopology learns where the slots of a cluster are.
func (s *valkeyStore) findTopology(ctx context.Context) error {
	if !s.cluster {
		return nil
	}
	return s.topology.learn(ctx, s.client)
}

// findTracking finds out whether events come.
func (s *valkeyStore) findTracking(unused string) question {
	return func(ctx context.Context) error {
		err := s.tracker.tracks(ctx, s.client, unused)
		if !isAnswer(err) {
			return err
		}
		s.decideTracking(err)
		return nil
	}
}

// decideTracking notes whether events come; refused is why not.
func (s *valkeyStore) decideTracking(refused error) {
	if refused != nil {
		s.untracked.Store(&refused)
		s.tracking.Store(int32(unable))
		return
	}
	s.tracking.Store(int32(able))
	s.tracker.send(store.Event{All: true}) // waiters that poll need not any more
}

// findCommands finds out which commands there are, on a key that does not exist and is not made to.
// It looks at one node; should another turn out to be older, the commands fall back when it says
// so.
func (s *valkeyStore) findCommands(key string) question {
	return func(ctx context.Context) error {
		b := s.client.B()
		batch := newBatch()
		batch.add(
			b.Set().Key(key).Value("a").Ifeq("b").Get().PxMilliseconds(1).Build(),
			b.Delifeq().Key(key).Value("a").Build(),
			b.Delex().Key(key).Ifeq("a").Build(),
		)
		sent := s.now()
		if !s.cluster {
			batch.add(b.Time().Build())
		}
		results := s.lanes[0].do(ctx, key, batch)
		for i := range results[:3] {
			if err := results[i].Error(); !isAnswer(err) {
				return err
			}
		}
		for i, can := range []*atomic.Bool{&s.setIfeq, &s.delIfeq, &s.delex} {
			err := results[i].Error()
			can.Store(err == nil || valkey.IsValkeyNil(err))
		}
		if !s.cluster {
			s.observeTime(lifetime{sent: sent}, results[3])
		}
		s.loadScripts(ctx, key)
		return nil
	}
}

// findQueues finds out whether there can be queues.
func (s *valkeyStore) findQueues(ctx context.Context) error {
	switch err := s.rehearse(ctx); {
	case err == nil:
		s.queues.Store(true)
		s.tracker.send(store.Event{All: true}) // waiters may stand in them now
	case isAnswer(err) || refusesQueue(err):
		s.deny(err)
	default:
		return err
	}
	return nil
}

// loadScripts runs the scripts, which find nothing to do, so that the server knows them before they
// matter.
func (s *valkeyStore) loadScripts(ctx context.Context, key string) {
	if s.setIfeq.Load() && (s.delIfeq.Load() || s.delex.Load()) {
		return
	}
	b, scripts := s.client.B(), newBatch()
	scripts.add(
		extendScript.command(b, true, []string{key}, "a", "PEXPIRE", "1"),
		releaseScript.command(b, true, []string{key}, "a"),
	)
	s.lanes[0].do(ctx, key, scripts)
}
