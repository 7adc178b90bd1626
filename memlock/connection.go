package memlock

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

var (
	errClosed   = errors.New("memlock: connection closed")
	errReplicas = store.Permanent(errors.New("memlock: there are no replicas"))
	errCounter  = store.Permanent(errors.New("memlock: the counter of fencing tokens is not to be used"))
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
	inbox      string // what the owner values of its locker begin with, if it takes word of queues
	gone       bool
}

func (c *connection) Lane(key string) int { return c.server.lane(key) }
func (c *connection) Watches() bool       { return true }
func (c *connection) Echoes() bool        { return c.server.option.Echoes }

func (c *connection) Claim(ctx context.Context, ops []store.Op) { c.request(ctx, ops, (*step).claims) }
func (c *connection) Extend(ctx context.Context, ops []store.Op) {
	c.request(ctx, ops, each((*step).extend))
}
func (c *connection) Release(ctx context.Context, ops []store.Op) {
	c.request(ctx, ops, (*step).releases)
}
func (c *connection) Read(ctx context.Context, ops []store.Op) {
	c.request(ctx, ops, each((*step).read))
}
func (c *connection) Look(ctx context.Context, ops []store.Op) {
	c.request(ctx, ops, each((*step).look))
}
func (c *connection) Enlist(ctx context.Context, ops []store.Op) {
	c.request(ctx, ops, each((*step).enlist))
}
func (c *connection) Waiting(ctx context.Context, ops []store.Op) {
	c.request(ctx, ops, each((*step).waiting))
}

// Scan finds all keys at one instant.
func (c *connection) Scan(ctx context.Context, prefix string, found func(keys []string) bool) error {
	if err := c.unusable(ctx); err != nil {
		return err
	}
	var keys []string
	for _, key := range c.server.Keys() {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	if len(keys) > 0 {
		found(keys)
	}
	return nil
}

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
func (c *connection) request(ctx context.Context, ops []store.Op, command func(*step, []store.Op)) {
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
	command func(*step, []store.Op)
	// answered is closed when the reply is back.
	answered chan struct{}
}

// travel is request over a wire. What was sent is carried out even if the sender has stopped waiting for it, so
// it works on a copy.
func (c *connection) travel(ctx context.Context, ops []store.Op, command func(*step, []store.Op)) {
	sent := c.send(batch{slices.Clone(ops), command, make(chan struct{})})
	select {
	case <-sent.answered:
		for i := range ops {
			ops[i].Answer = sent.ops[i].Answer
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

func (c *connection) carryOut(ops []store.Op, command func(*step, []store.Op)) {
	for i, n := 0, 1; i < len(ops); i += n {
		n = together(ops[i:])
		some := ops[i : i+n]
		for j := range some {
			some[j].Answer = store.Answer{}
		}
		c.server.atomically(c, func(st *step) { command(st, some) })
	}
}

// each is a command that is about one op at a time.
func each(command func(*step, *store.Op)) func(*step, []store.Op) {
	return func(st *step, ops []store.Op) {
		for i := range ops {
			command(st, &ops[i])
		}
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

func fail(ops []store.Op, err error, unknown bool) {
	for i := range ops {
		ops[i].Answer = store.Answer{Err: err, Unknown: unknown}
	}
}

func (st *step) claim(op *store.Op) {
	if op.Validity <= 0 {
		op.Err = errValidity
		return
	}
	if op.Replicas > 0 {
		op.Err = errReplicas
		return
	}
	last, err := st.counter(op)
	if err != nil {
		op.Err = err
		return
	}
	e, found := st.get(op.Key)
	mine := found && e.value == op.Owner
	from, _, _ := strings.Cut(e.value, "\n")
	if !found || !mine && (op.Force || op.From != "" && op.From == from) {
		e = st.set(op.Key, op.Owner, op.Validity)
	}
	op.Holder, op.TTL = holder(e), st.left(e)
	if op.Counter != "" && op.Holder == op.Owner {
		op.Token = st.token(op, last, mine)
	}
	st.watch(op.Key)
	if op.Wake != "" {
		st.claimWake(op)
	}
}

// counterSlack is how long a counter lives when the time has passed it.
const counterSlack = time.Hour

// token takes the next token: the greatest of the counter and the floor, plus one, and the time in microseconds. A claim that is a
// repetition has its token in the counter.
func (st *step) token(op *store.Op, last int64, again bool) int64 {
	if again && last > op.Floor {
		return last
	}
	token := max(last+1, op.Floor+1, st.now.UnixMicro())
	st.setCounter(op, token)
	return token
}

// mostToken is what tokens do not go beyond, as on servers, whose scripts count with floating point.
const mostToken = 9e15

// counter reads a counter; zero if there is none.
func (st *step) counter(op *store.Op) (int64, error) {
	e, found := st.get(op.Counter)
	if !found || op.Counter == "" {
		return 0, nil
	}
	last, err := strconv.ParseInt(e.value, 10, 64)
	if err != nil || last < 0 || last >= mostToken {
		return 0, errCounter
	}
	return last, nil
}

func (st *step) setCounter(op *store.Op, token int64) {
	ahead := time.Duration(token-st.now.UnixMicro()) * time.Microsecond
	st.set(op.Counter, strconv.FormatInt(token, 10), max(ahead, 0)+counterSlack)
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
	last, err := st.counter(op)
	if err != nil {
		op.Err = err
		return
	}
	e, found := st.get(op.Key)
	if found && e.value == op.Owner {
		e = st.set(op.Key, op.Owner, op.Validity)
		if last < op.Floor && op.Counter != "" {
			st.setCounter(op, op.Floor)
		}
	}
	if found {
		op.Holder, op.TTL = holder(e), st.left(e)
	}
	st.watch(op.Key)
}

func (st *step) read(op *store.Op) {
	if e, found := st.get(op.Key); found {
		op.Holder, op.TTL = holder(e), st.left(e)
	}
	st.watch(op.Key)
	if op.Queue != "" {
		op.Queued = slices.ContainsFunc(st.queue(op.Queue), func(s standing) bool { return s.owner == op.Owner && s.epoch == op.Epoch })
	}
}

// enlisted is one line of a list of waiters, which is kept as the value of its key.
type enlisted struct {
	owner string
	count int32
	until time.Time
}

func (st *step) enlist(op *store.Op) {
	list := slices.DeleteFunc(st.list(op.Key), func(e enlisted) bool { return e.owner == op.Owner })
	if op.Waiters > 0 {
		list = append(list, enlisted{op.Owner, op.Waiters, st.now.Add(op.Validity)})
	}
	if len(list) == 0 {
		delete(st.server.lists, op.Key)
		st.remove(op.Key)
		return
	}
	st.server.lists[op.Key] = list
	longest := slices.MaxFunc(list, func(a, b enlisted) int { return a.until.Compare(b.until) })
	st.set(op.Key, "waiters", longest.until.Sub(st.now))
}

func (st *step) waiting(op *store.Op) {
	for _, e := range st.list(op.Key) {
		op.Waiting += e.count
	}
}

// list is who is on a list and has not run out.
func (st *step) list(key string) []enlisted {
	if _, found := st.get(key); !found {
		delete(st.server.lists, key)
		return nil
	}
	return slices.DeleteFunc(st.server.lists[key], func(e enlisted) bool { return !st.now.Before(e.until) })
}

func (st *step) release(op *store.Op) {
	e, found := st.get(op.Key)
	switch {
	case found && e.value == op.Owner:
		st.remove(op.Key)
		op.Found = true
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
