package memlock

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

var (
	errClosed   = errors.New("memlock: connection closed")
	errValidity = store.Permanent(errors.New("memlock: validity is not positive"))
)

// connection is one locker's way to the server.
type connection struct {
	server *Server
	// closed is closed by Close.
	closed chan struct{}
	once   sync.Once

	// wire guards underWay, the batches that have not arrived yet, and is held while one is carried out.
	wire     sync.Mutex
	underWay []batch

	// Below server.mu.
	subscriber func(store.Event)
	gone       bool
}

func (c *connection) Lane(key string) int { return c.server.lane(key) }
func (c *connection) Watches() bool       { return true }
func (c *connection) Echoes() bool        { return c.server.option.Echoes }

func (c *connection) Claim(ctx context.Context, ops []store.Op)  { c.request(ctx, ops, (*step).claim) }
func (c *connection) Extend(ctx context.Context, ops []store.Op) { c.request(ctx, ops, (*step).extend) }
func (c *connection) Release(ctx context.Context, ops []store.Op) {
	c.request(ctx, ops, (*step).release)
}
func (c *connection) Look(ctx context.Context, ops []store.Op) { c.request(ctx, ops, (*step).look) }

func (c *connection) Subscribe(subscriber func(store.Event)) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.subscriber = subscriber
}

func (c *connection) Close() {
	c.once.Do(func() {
		close(c.closed)
		c.server.disconnect(c)
	})
}

// request has the ops carried out, each at one instant of its own as in a pipeline, and waits for the answers.
func (c *connection) request(ctx context.Context, ops []store.Op, command func(*step, *store.Op)) {
	if err := c.unusable(ctx); err != nil {
		fail(ops, err, false)
		return
	}
	if c.server.option.Latency <= 0 {
		c.carryOut(ops, command)
		return
	}
	c.travel(ctx, ops, command)
}

func (c *connection) unusable(ctx context.Context) error {
	select {
	case <-c.closed:
		return errClosed
	default:
		return ctx.Err()
	}
}

// batch is a request on its way.
type batch struct {
	ops     []store.Op
	command func(*step, *store.Op)
	// answered is closed when the reply is back.
	answered chan struct{}
}

// travel is request over a wire. What was sent is carried out even if the sender has stopped waiting for it, so
// it works on a copy.
func (c *connection) travel(ctx context.Context, ops []store.Op, command func(*step, *store.Op)) {
	sent := c.send(batch{slices.Clone(ops), command, make(chan struct{})})
	select {
	case <-sent.answered:
		for i := range ops {
			answer(&ops[i], sent.ops[i])
		}
	case <-ctx.Done():
		fail(ops, ctx.Err(), true)
	case <-c.closed:
		fail(ops, errClosed, true)
	}
}

func (c *connection) send(b batch) batch {
	c.wire.Lock()
	defer c.wire.Unlock()
	c.underWay = append(c.underWay, b)
	time.AfterFunc(c.server.option.Latency/2, c.arrive)
	return b
}

// arrive is called once for each batch, when one arrives. That is always the oldest, whichever timer was first: requests do
// not overtake each other on a connection.
func (c *connection) arrive() {
	c.wire.Lock()
	defer c.wire.Unlock()
	b := c.underWay[0]
	c.underWay = c.underWay[1:]
	c.carryOut(b.ops, b.command)
	time.AfterFunc(c.server.option.Latency/2, func() { close(b.answered) })
}

func (c *connection) carryOut(ops []store.Op, command func(*step, *store.Op)) {
	for i := range ops {
		op := &ops[i]
		answer(op, store.Op{})
		c.server.atomically(c, func(st *step) { command(st, op) })
	}
}

// tell sends an event. The subscriber does not block, so there is no goroutine for it.
func (c *connection) tell(event store.Event) {
	if latency := c.server.option.Latency; latency > 0 {
		time.AfterFunc(latency/2, func() { c.deliver(event) })
		return
	}
	c.deliver(event)
}

func (c *connection) deliver(event store.Event) {
	c.server.mu.Lock()
	subscriber := c.subscriber
	c.server.mu.Unlock()
	if subscriber != nil {
		subscriber(event)
	}
}

// answer copies the store's half of an Op and leaves the engine's half alone.
func answer(op *store.Op, from store.Op) {
	op.Holder, op.TTL, op.WakeTTL, op.Err, op.Unknown = from.Holder, from.TTL, from.WakeTTL, from.Err, from.Unknown
}

func fail(ops []store.Op, err error, unknown bool) {
	for i := range ops {
		answer(&ops[i], store.Op{Err: err, Unknown: unknown})
	}
}

func (st *step) claim(op *store.Op) {
	if op.Validity <= 0 {
		op.Err = errValidity
		return
	}
	e, found := st.get(op.Key)
	if !found || op.Force && e.value != op.Owner {
		e = st.set(op.Key, op.Owner, op.Validity)
	}
	op.Holder, op.TTL = holder(e), st.left(e)
	st.watch(op.Key)
	if op.Wake != "" {
		st.claimWake(op)
	}
}

func (st *step) claimWake(op *store.Op) {
	wake, found := st.get(op.Wake)
	if !found {
		wake = st.set(op.Wake, "", store.WakeLife)
	}
	op.WakeTTL = st.left(wake)
	st.watch(op.Wake)
}

func (st *step) extend(op *store.Op) {
	if op.Validity <= 0 {
		op.Err = errValidity
		return
	}
	e, found := st.get(op.Key)
	if found && e.value == op.Owner {
		e = st.set(op.Key, op.Owner, op.Validity)
	}
	if found {
		op.Holder, op.TTL = holder(e), st.left(e)
	}
	st.watch(op.Key)
}

func (st *step) release(op *store.Op) {
	e, found := st.get(op.Key)
	switch {
	case found && e.value == op.Owner:
		st.remove(op.Key)
	case found:
		op.Holder = holder(e)
	}
	if _, found := st.get(op.Wake); found && op.Wake != "" {
		st.remove(op.Wake)
	}
}

func (st *step) look(op *store.Op) {
	if e, found := st.get(op.Key); found {
		op.Holder, op.TTL = store.Unnamed, st.left(e)
	}
	st.watch(op.Key)
}

// holder is the value of a key that exists. A stranger may have set it to nothing, which must not look like no key.
func holder(e entry) string {
	if e.value == "" {
		return store.Unnamed
	}
	return e.value
}
