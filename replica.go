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
	patience := min(s.patience, s.clock.drift.windowOf(ops[0].Validity))
	patience = max(patience/2, time.Millisecond) // so that the answer comes within the attempt, for which it may have to connect first
	wanted := int64(ops[0].Replicas)
	commands = append(commands, b.Wait().Numreplicas(wanted).Timeout(patience.Milliseconds()).Build())
	results := s.onOwnConnection(ctx, commands)
	acknowledged, err := results[len(ops)].AsInt64()
	answers := answers{ctx: ctx, results: results, command: "EVAL"}
	for _, op := range ops {
		found := store.Op{Owner: op.Owner}
		holder, _ := answers.value(&found)
		switch {
		case found.Err != nil:
			op.Err, op.Unknown = found.Err, true
		case holder != op.Owner: // lost meanwhile
			op.Holder = holder
		case err != nil:
			answers.failed(op, err, "WAIT")
			op.Unknown = true
		case acknowledged < wanted:
			op.Err, op.Unknown = &ReplicaError{Acknowledged: int(acknowledged), Wanted: int(wanted)}, true
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
