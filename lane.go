package ctxlock

import (
	"context"
	"errors"
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
	shaky atomic.Bool
}

const (
	mostSlots = 512
	// fenceTime is longer than valkey-go keeps a connection that does not answer.
	fenceTime = 30 * time.Second
)

// errUnsent is for requests that never left.
var errUnsent = errors.New("not sent")

// do sends commands together, the first of them about key, and gives a result for each. At the latest when ctx ends, those
// without an answer have the cause of that as their error.
func (v *valkeyLane) do(ctx context.Context, key string, commands []valkey.Completed) []valkey.ValkeyResult {
	select {
	case v.slots <- struct{}{}:
	default:
		select {
		case v.slots <- struct{}{}:
		case <-ctx.Done():
			return allFailed(len(commands), errors.Join(errUnsent, context.Cause(ctx)))
		}
	}
	if v.shaky.Load() {
		return v.doApart(ctx, commands)
	}
	results := v.client.DoMulti(ctx, commands...)
	if v.judge(results) && ctx.Err() != nil {
		go v.keepSlot(key)
		return results
	}
	<-v.slots
	return results
}

// doApart is do on a goroutine of its own, which ends when the request is answered or its connection given up.
func (v *valkeyLane) doApart(ctx context.Context, commands []valkey.Completed) []valkey.ValkeyResult {
	answer := make(chan []valkey.ValkeyResult, 1)
	go func() {
		// Not ctx: its end would only move the wait for the answer into the client, where it cannot be counted.
		fence, cancel := context.WithTimeout(context.Background(), fenceTime)
		defer cancel()
		results := v.client.DoMulti(fence, commands...)
		v.judge(results)
		<-v.slots
		answer <- results
	}()
	select {
	case results := <-answer:
		return results
	case <-ctx.Done():
		return allFailed(len(commands), context.Cause(ctx))
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

// judge notes whether the connection works, and reports whether anything is left without an answer.
func (v *valkeyLane) judge(results []valkey.ValkeyResult) (broken bool) {
	for i := range results {
		if results[i].NonValkeyError() != nil {
			broken = true
			break
		}
	}
	if v.shaky.Load() != broken {
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
