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
	places [urgencies]chan struct{} // one for each request under way, see urgency
	many   bool                     // its requests may go to several nodes
	// shaky is set when a request failed or the connection was lost, until one succeeds. Only then do requests run on a
	// goroutine of their own, which their callers can leave at any point: that costs a tenth of a round trip on loopback.
	shaky  atomic.Bool
	losses atomic.Int64 // connections lost so far: an answer from before the last one proves nothing
	// replicas is how many are known to acknowledge what is written, as far as anybody wanted to know.
	replicas atomic.Int64

	mu      sync.Mutex
	left    []leftRequest // those that no fence is under way for
	fencing bool          // fence runs
}

// urgency is how little a request can wait. When all places are taken, requests wait for one in the order in
// which they came, until their contexts end. Each urgency has places of its own, and may take those of the lower ones: so
// extensions never stand behind tries, nor behind releases.
type urgency int

const (
	usual urgency = iota
	releasing
	extending
	urgencies
)

// leftRequest is a request whose caller has left. It keeps its place until it is answered.
type leftRequest struct {
	key   string
	place chan struct{}
}

const (
	// ringScale is what valkey-go uses by default: 2^10 requests may be under way on a connection. Smaller
	// rings are made larger, up to the least that has places for all.
	ringScale, leastRingScale = 10, 4
	// fenceTime is longer than valkey-go keeps a connection that does not answer.
	fenceTime = 30 * time.Second
)

// open makes the places, three quarters of the ring: the client has other requests, such as fences, and its user's.
func (v *valkeyLane) open(client valkey.Client, scale int, many bool) {
	if scale <= 0 {
		scale = ringScale
	}
	ring := 1 << min(max(scale, leastRingScale), ringScale)
	v.client, v.many = client, many
	v.places = [urgencies]chan struct{}{
		usual:     make(chan struct{}, ring/2),
		releasing: make(chan struct{}, ring/8),
		extending: make(chan struct{}, ring/8),
	}
}

// errUnsent is for requests that never left.
var errUnsent = errors.New("not sent")

// tooLateToSend is the error of a request that was not sent because its context had ended, perhaps while it waited for a place. There is no
// text until somebody asks: there may be many of them.
type tooLateToSend struct {
	waited bool
	cause  error
}

func (e *tooLateToSend) Error() string {
	if e.waited {
		return fmt.Sprintf("%v, since too many requests had no answer yet: %v", errUnsent, e.cause)
	}
	return fmt.Sprintf("%v: %v", errUnsent, e.cause)
}

func (e *tooLateToSend) Unwrap() []error { return []error{errUnsent, e.cause} }

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
	return v.ask(ctx, usual, key, b).results
}

// ask is do for requests of an urgency. It gives their stream, too (see store.Answer).
func (v *valkeyLane) ask(ctx context.Context, u urgency, key string, b *batch) answers {
	said := answers{ctx: ctx}
	waits := ctx.Err() == nil
	place := v.take(ctx, u)
	if place == nil {
		said.results = allFailed(len(b.commands), &tooLateToSend{waits, context.Cause(ctx)})
		return said
	}
	if v.shaky.Load() {
		said.results = v.doApart(ctx, place, b)
		return said
	}
	losses := v.losses.Load()
	said.results = v.send(ctx, b.commands)
	answered, left := v.judge(ctx, said.results, losses)
	if (answered || left) && !v.many && v.losses.Load() == losses {
		said.stream = losses + 1
	}
	if left {
		v.leave(leftRequest{key, place})
		return said
	}
	<-place
	if answered {
		b.recycle()
	}
	return said
}

// take takes a place, and tells of which urgency. It gives nil if ctx ended before there was one.
func (v *valkeyLane) take(ctx context.Context, u urgency) (place chan struct{}) {
	if ctx.Err() != nil {
		return nil
	}
	select {
	case v.places[usual] <- struct{}{}:
		return v.places[usual]
	default:
	}
	var open [urgencies]chan struct{} // those that it may take
	copy(open[:], v.places[:u+1])
	select {
	case open[usual] <- struct{}{}:
		place = open[usual]
	case open[releasing] <- struct{}{}:
		place = open[releasing]
	case open[extending] <- struct{}{}:
		place = open[extending]
	case <-ctx.Done():
		return nil
	}
	if ctx.Err() != nil {
		<-place
		return nil
	}
	return place
}

// send spares what DoMulti costs more than Do where there is only one command.
func (v *valkeyLane) send(ctx context.Context, commands []valkey.Completed) []valkey.ValkeyResult {
	if len(commands) == 1 {
		return []valkey.ValkeyResult{v.client.Do(ctx, commands[0])}
	}
	return v.client.DoMulti(ctx, commands...)
}

// doApart is do on a goroutine of its own, which ends when the request is answered or its connection given up.
func (v *valkeyLane) doApart(ctx context.Context, place chan struct{}, b *batch) []valkey.ValkeyResult {
	count := len(b.commands)
	answer := make(chan []valkey.ValkeyResult, 1)
	go func() {
		// Not ctx: its end would only move the wait for the answer into the client, where it cannot be counted; and where
		// the client connects, it would end that for all who wait for it.
		fence, cancel := context.WithTimeout(context.Background(), fenceTime)
		defer cancel()
		losses := v.losses.Load()
		results := v.send(fence, b.commands)
		v.judge(context.Background(), results, losses)
		<-place
		answer <- results
	}()
	select {
	case results := <-answer:
		return results
	case <-ctx.Done():
		return allFailed(count, context.Cause(ctx))
	}
}

// leave notes a request whose caller has left.
func (v *valkeyLane) leave(r leftRequest) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.left = append(v.left, r)
	if !v.fencing {
		v.fencing = true
		go v.fence()
	}
}

// fence gives the places of requests back that their callers have left, when they are done with. Connections answer in
// order, so that is when a later request is: one for all that were left before it. It ends when there are none.
func (v *valkeyLane) fence() {
	for {
		v.mu.Lock()
		left := v.left
		v.left, v.fencing = nil, len(left) > 0
		v.mu.Unlock()
		if len(left) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), fenceTime)
		v.send(ctx, v.fenceOf(left))
		cancel()
		for _, r := range left {
			<-r.place
		}
	}
}

// fenceOf is a request that reaches all nodes which those requests have gone to.
func (v *valkeyLane) fenceOf(left []leftRequest) (commands []valkey.Completed) {
	slots := make(map[int]bool)
	for _, r := range left {
		slot := 0
		if v.many {
			slot = slotOf(r.key)
		}
		if !slots[slot] {
			slots[slot] = true
			commands = append(commands, v.client.B().Pttl().Key(r.key).Build())
		}
	}
	return commands
}

// judge notes whether the connection works, and reports whether all was answered, and else whether the caller has left what was
// not: that ctx has ended says nothing of the connection. losses is how many connections had been lost when the request was sent.
func (v *valkeyLane) judge(ctx context.Context, results []valkey.ValkeyResult, losses int64) (answered, left bool) {
	broken := false
	for i := range results {
		switch err := results[i].NonValkeyError(); {
		case err == nil:
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			left = true
		default:
			broken = true
		}
	}
	if (broken || !left) && v.shaky.Load() != broken && (broken || v.losses.Load() == losses) {
		v.shaky.Store(broken)
	}
	return !broken && !left, left
}

func allFailed(n int, err error) []valkey.ValkeyResult {
	results := make([]valkey.ValkeyResult, n)
	for i := range results {
		results[i] = valkey.NewErrorResult(err)
	}
	return results
}
