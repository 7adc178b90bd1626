package ctxlock

import (
	"context"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/store"
)

// Replicas acknowledge what a connection has written, and WAIT, on that connection, waits for them. It would hold up everything
// behind it on the one that locks travel on, so it takes another: there the keys are extended, which goes to the replicas after the
// claim, and then waited for.
//
// An attempt that they do not acknowledge has kept the lock from others for as long as it waited. So where that has happened, or was never
// tried, they are asked before anything is claimed, by a key that nobody waits for.

// askReplicas sees, before a claim, that enough replicas acknowledge what is written, unless they have when it was last seen. If they do
// not, the ops have that as their error, and it reports false.
func (s *valkeyStore) askReplicas(ctx context.Context, ops []store.Op) bool {
	op := &ops[0]
	key, lane := s.replicaKey(op.Key), s.lane(op.Key)
	if lane.replicas.Load() >= int64(op.Replicas) || s.cluster && slotOf(key) != slotOf(op.Key) {
		return true
	}
	b, patience := s.client.B(), s.replicaPatience(op.Validity)
	answers := answers{ctx: ctx, results: s.onOwnConnection(ctx, []valkey.Completed{
		b.Set().Key(key).Value("1").PxMilliseconds(2 * patience.Milliseconds()).Build(),
		b.Wait().Numreplicas(int64(op.Replicas)).Timeout(patience.Milliseconds()).Build(),
		b.Del().Key(key).Build(),
	}), command: "SET"}
	said := store.Op{Key: key} // which errors name
	if _, err := answers.value(&said); err == nil {
		said.Err = lane.acknowledge(&answers, op.Replicas)
	}
	if said.Err != nil {
		failAll(ops, said.Err)
	}
	return said.Err == nil
}

// replicaKey is a key in the slot of another, unless closing braces in that keep it from there.
func (s *valkeyStore) replicaKey(key string) string {
	return s.inbox.prefix + ":" + replicaMark + ":{" + hashTag(key) + "}"
}

// replicaPatience is how long replicas may take to acknowledge: so that the answer comes within the attempt, for which it may have to
// connect first.
func (s *valkeyStore) replicaPatience(validity time.Duration) time.Duration {
	return max(min(s.patience, s.clock.drift.windowOf(validity))/2, time.Millisecond)
}

// acknowledge reads the answer to WAIT, and notes how many replicas acknowledge. Its error tells if they are too few.
func (v *valkeyLane) acknowledge(a *answers, wanted int32) error {
	acknowledged, err := a.next().AsInt64()
	if err != nil {
		var said store.Op
		a.failed(&said, err, "WAIT")
		return said.Err
	}
	if acknowledged < int64(wanted) {
		v.replicas.Store(acknowledged)
		return &ReplicaError{Acknowledged: int(acknowledged), Wanted: int(wanted)}
	}
	v.replicas.Store(max(v.replicas.Load(), int64(wanted)))
	return nil
}

// confirm sees that enough replicas have what was claimed.
func (s *valkeyStore) confirm(ctx context.Context, ops []store.Op) {
	won := make([]*store.Op, 0, len(ops))
	for i := range ops {
		if ops[i].Mine() {
			won = append(won, &ops[i])
		}
	}
	if s.cluster { // keys of different slots do not travel on one connection of this kind
		done := make(chan struct{}, len(won))
		for i := range won {
			go func() {
				s.confirmTogether(ctx, won[i:i+1])
				done <- struct{}{}
			}()
		}
		for range won {
			<-done
		}
		return
	}
	if len(won) > 0 {
		s.confirmTogether(ctx, won)
	}
}

// confirmTogether has keys acknowledged that can be written on one connection.
func (s *valkeyStore) confirmTogether(ctx context.Context, ops []*store.Op) {
	b := s.client.B()
	var commands []valkey.Completed
	for _, op := range ops {
		life := s.lifetime(op.Validity)
		verb := "PEXPIRE"
		if life.at != 0 {
			verb = "PEXPIREAT"
		}
		commands = append(commands, extendScript.command(b, true, []string{op.Key}, op.Owner, verb, life.value))
	}
	wanted := ops[0].Replicas
	patience := s.replicaPatience(ops[0].Validity)
	commands = append(commands, b.Wait().Numreplicas(int64(wanted)).Timeout(patience.Milliseconds()).Build())
	said := answers{ctx: ctx, results: s.onOwnConnection(ctx, commands), command: "EVAL"}
	wait := answers{ctx: ctx, results: said.results[len(ops):]}
	missing := s.lane(ops[0].Key).acknowledge(&wait, wanted)
	for _, op := range ops {
		found := store.Op{Owner: op.Owner}
		holder, _ := said.value(&found)
		switch {
		case found.Err != nil:
			op.Err, op.Unknown = found.Err, true
		case holder != op.Owner: // lost meanwhile
			op.Holder = holder
		case missing != nil:
			op.Err, op.Unknown = missing, true
		}
	}
}

// onOwnConnection sends commands on a connection that nobody else uses meanwhile, and returns at the latest when ctx ends.
func (s *valkeyStore) onOwnConnection(ctx context.Context, commands []valkey.Completed) []valkey.ValkeyResult {
	answer := make(chan []valkey.ValkeyResult, 1)
	go func() { // it ends when the client gives up on the connection, or is closed
		fence, cancel := context.WithTimeout(context.Background(), fenceTime)
		defer cancel()
		connection, giveBack := s.client.Dedicate()
		defer giveBack()
		answer <- connection.DoMulti(fence, commands...)
	}()
	select {
	case results := <-answer:
		return results
	case <-ctx.Done():
		return allFailed(len(commands), context.Cause(ctx))
	}
}
