package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"
)

// valkeyLane is a way to a server: a connection, or a part of those of a cluster. It keeps calls within their contexts, and
// the requests under way within what the client takes. valkey-go (v1.0.79) alone does neither where it matters here: a call
// blocks, whatever its context says, while the client's ring of 1024 requests is full, and while another call connects.
type valkeyLane struct {
	client valkey.Client
	slots  chan struct{} // one for each request under way; a request whose caller has left keeps its slot until it is answered
	// shaky is set when a request failed or the connection was lost, until one succeeds. Only then do requests run on a
	// goroutine of their own, which their callers can leave at any point: that costs a tenth of a round trip on loopback.
	shaky  atomic.Bool
	losses atomic.Int64 // connections lost so far: an answer from before the last one proves nothing
}

const (
	mostSlots = 512
	// fenceTime is longer than valkey-go keeps a connection that does not answer.
	fenceTime = 30 * time.Second
)

// errUnsent is for requests that never left.
var errUnsent = errors.New("not sent")

// errTooMany is for requests to a server that does not answer those that it has.
var errTooMany = fmt.Errorf("%w: too many requests have no answer yet", errUnsent)

// batch is commands that travel together. Batches that came back whole are used again.
type batch struct{ commands []valkey.Completed }

func (b *batch) add(commands ...valkey.Completed) { b.commands = append(b.commands, commands...) }

var batchPool = sync.Pool{New: func() any { return new(batch) }}

func newBatch() *batch { return batchPool.Get().(*batch) }

// recycle is for a batch that the client is done with.
func (b *batch) recycle() {
	clear(b.commands)
	b.commands = b.commands[:0]
	batchPool.Put(b)
}

// do sends a batch, the first command of which is about key, and gives a result for each command. At the latest when ctx ends,
// those without an answer have its error or cause as theirs. The batch is used up.
func (v *valkeyLane) do(ctx context.Context, key string, b *batch) []valkey.ValkeyResult {
	select {
	case v.slots <- struct{}{}:
	default:
		if v.shaky.Load() { // they may stay taken for long, and whoever waits for one takes memory
			return allFailed(len(b.commands), errTooMany)
		}
		select {
		case v.slots <- struct{}{}:
		case <-ctx.Done():
			return allFailed(len(b.commands), errors.Join(errUnsent, context.Cause(ctx)))
		}
	}
	if v.shaky.Load() {
		return v.doApart(ctx, b)
	}
	losses := v.losses.Load()
	results := v.send(ctx, b.commands)
	broken := v.judge(results, losses)
	if broken && ctx.Err() != nil {
		go v.keepSlot(key)
		return results
	}
	<-v.slots
	if !broken {
		b.recycle()
	}
	return results
}

// send spares what DoMulti costs more than Do where there is only one command.
func (v *valkeyLane) send(ctx context.Context, commands []valkey.Completed) []valkey.ValkeyResult {
	if len(commands) == 1 {
		return []valkey.ValkeyResult{v.client.Do(ctx, commands[0])}
	}
	return v.client.DoMulti(ctx, commands...)
}

// doApart is do on a goroutine of its own, which ends when the request is answered or its connection given up.
func (v *valkeyLane) doApart(ctx context.Context, b *batch) []valkey.ValkeyResult {
	count := len(b.commands)
	answer := make(chan []valkey.ValkeyResult, 1)
	go func() {
		// Not ctx: its end would only move the wait for the answer into the client, where it cannot be counted.
		fence, cancel := context.WithTimeout(context.Background(), fenceTime)
		defer cancel()
		losses := v.losses.Load()
		results := v.send(fence, b.commands)
		v.judge(results, losses)
		<-v.slots
		answer <- results
	}()
	select {
	case results := <-answer:
		return results
	case <-ctx.Done():
		return allFailed(count, context.Cause(ctx))
	}
}

// keepSlot gives a slot back when the request that its caller has left is done with. Connections answer in order, so it is when
// a later request is.
func (v *valkeyLane) keepSlot(key string) {
	ctx, cancel := context.WithTimeout(context.Background(), fenceTime)
	defer cancel()
	v.client.Do(ctx, v.client.B().Pttl().Key(key).Build())
	<-v.slots
}

// judge notes whether the connection works, and reports whether anything is left without an answer. losses is how many
// connections had been lost when the request was sent.
func (v *valkeyLane) judge(results []valkey.ValkeyResult, losses int64) (broken bool) {
	for i := range results {
		if results[i].NonValkeyError() != nil {
			broken = true
			break
		}
	}
	if v.shaky.Load() != broken && (broken || v.losses.Load() == losses) {
		v.shaky.Store(broken)
	}
	return broken
}

func allFailed(n int, err error) []valkey.ValkeyResult {
	results := make([]valkey.ValkeyResult, n)
	for i := range results {
		results[i] = valkey.NewErrorResult(err)
	}
	return results
}
