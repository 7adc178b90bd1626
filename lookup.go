package ctxlock

import (
	"context"
	"strconv"
	"strings"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/store"
)

// Enlist is a script.
func (s *valkeyStore) Enlist(ctx context.Context, ops []store.Op) {
	s.ask(ctx, ops, &enlistScript, func(op *store.Op) []string {
		return []string{op.Owner, strconv.Itoa(int(op.Waiters)), strconv.FormatInt(op.Validity.Milliseconds(), 10)}
	})
}

// Waiting is a script.
func (s *valkeyStore) Waiting(ctx context.Context, ops []store.Op) {
	s.ask(ctx, ops, &waitingScript, func(*store.Op) []string { return nil })
}

// ask runs a script for each op that answers a number.
func (s *valkeyStore) ask(ctx context.Context, ops []store.Op, of *script, args func(*store.Op) []string) {
	if len(ops) == 0 {
		return
	}
	for _, whole := range []bool{false, true} {
		b, batch := s.client.B(), newBatch()
		for i := range ops {
			batch.add(of.command(b, whole, []string{ops[i].Key}, args(&ops[i])...))
		}
		answers := answers{ctx: ctx, results: s.lane(ops[0].Key).do(ctx, ops[0].Key, batch), command: evalsha}
		again := false
		for i := range ops {
			answers.number(&ops[i])
			again = again || unknownScript(ops[i].Err)
		}
		if !again {
			return
		}
	}
}

// scanCount is how many keys a server goes through in one step. It does nothing else meanwhile, for some tenths of a millisecond.
const scanCount = 1000

// Scan is SCAN, on each primary of a cluster.
func (s *valkeyStore) Scan(ctx context.Context, prefix string, found func(keys []string) bool) error {
	if !s.cluster {
		_, err := s.scan(ctx, s.client, prefix, found)
		return err
	}
	learned := make(chan struct{})
	s.topology.work.Go(func() {
		defer close(learned)
		s.topology.refresh(s.client)
	})
	select {
	case <-learned:
	case <-ctx.Done():
		return ctx.Err()
	}
	for address, node := range s.client.Nodes() {
		if !s.topology.isPrimary(address) {
			continue
		}
		if more, err := s.scan(ctx, node, prefix, found); err != nil || !more {
			return err
		}
	}
	return nil
}

// scan goes through one node's keys. It reports whether to go on with the next. Each step has the time that an attempt has: the client
// would ask again and again.
func (s *valkeyStore) scan(ctx context.Context, node valkey.Client, prefix string, found func(keys []string) bool) (more bool, err error) {
	for cursor := uint64(0); ; {
		part, err := s.scanStep(ctx, node, prefix, cursor)
		if err != nil {
			if ctx.Err() == nil && isContextError(err) {
				err = errNoAnswer
			}
			return false, explained(err, "SCAN")
		}
		if len(part.Elements) > 0 && !found(part.Elements) {
			return false, nil
		}
		if cursor = part.Cursor; cursor == 0 {
			return true, nil
		}
	}
}

// scanStep asks for one part. The client may block beyond any context while it connects.
func (s *valkeyStore) scanStep(ctx context.Context, node valkey.Client, prefix string, cursor uint64) (valkey.ScanEntry, error) {
	step, cancel := context.WithTimeoutCause(ctx, s.patience, errNoAnswer)
	defer cancel() // and not where it is answered: the end of the step would race with its answer
	answer := make(chan valkey.ValkeyResult, 1)
	go func() {
		answer <- node.Do(step, node.B().Scan().Cursor(cursor).Match(escapeGlob(prefix)+"*").Count(scanCount).Build())
	}()
	select {
	case result := <-answer:
		return result.AsScanEntry()
	case <-step.Done():
		return valkey.ScanEntry{}, context.Cause(step)
	}
}

var globEscaper = strings.NewReplacer("\\", "\\\\", "*", "\\*", "?", "\\?", "[", "\\[", "]", "\\]")

// escapeGlob makes a pattern that matches a text.
func escapeGlob(text string) string { return globEscaper.Replace(text) }
