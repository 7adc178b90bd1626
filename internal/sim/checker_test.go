package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/memlock"
)

// checker knows who believes to hold what, and finds out whether that can be.
type checker struct {
	plan   plan
	server *memlock.Server
	trace  *trace

	mu sync.Mutex
	// Below mu.
	live     map[string][]*belief // by name
	values   map[string]string    // an owner value that was seen last, by name
	tokens   map[string]int64     // the greatest fencing token that was handed out, by name
	acquired int
	lasted   time.Duration // in fake time, once it is over
	failures []string
}

// belief is a context that was handed out and has not been seen to have ended.
type belief struct {
	context.Context
	who string
	// rivalled is since when another has come to believe the same later.
	rivalled time.Time
}

// locker tells whose Locker it is. A process has one at a time, and the contexts of those before have
// ended.
func (b *belief) locker() string {
	process, _, _ := strings.Cut(b.who, ".")
	return process
}

func newChecker(p plan, server *memlock.Server, t *trace) *checker {
	return &checker{plan: p, server: server, trace: t, live: make(map[string][]*belief), tokens: make(map[string]int64), values: make(map[string]string)}
}

// lastValue is the owner value that a lock had that was taken last, or one that nobody has.
func (c *checker) lastValue(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if value := c.values[name]; value != "" {
		return value
	}
	return "nobody's"
}

// value is called with the owner value of a lock that was taken.
func (c *checker) value(name, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values[name] = value
}

// lastToken is what the token of a lock has to be above that is asked for now.
func (c *checker) lastToken(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens[name]
}

// token is called with the fencing token of each context that was handed out, and what lastToken was when it was asked for. A context that
// is alive now comes after all that came before, unless there is no law.
func (c *checker) token(who, name string, ctx context.Context, token, after int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() == nil && !c.plan.lawless {
		after = c.tokens[name]
	}
	if token <= after {
		c.fail(name, "%s has %s with the token %d, after %d", who, name, token, after)
	}
	c.tokens[name] = max(c.tokens[name], token)
}

// begin is called with each context that was handed out.
func (c *checker) begin(who, name string, ctx context.Context) {
	c.mu.Lock()
	c.acquired++
	c.live[name] = append(c.live[name], &belief{Context: ctx, who: who})
	c.mu.Unlock()
	c.check(name)
	context.AfterFunc(ctx, func() {
		c.trace.add(who, name, "ended: %v", context.Cause(ctx))
		c.check(name)
	})
}

// checkAll is called at regular instants.
func (c *checker) checkAll() {
	for i := range c.plan.names {
		c.check(nameOf(i))
	}
}

// check finds out whether those who believe to hold a name may all do so.
func (c *checker) check(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.alive(name)) == 0 {
		return // and nothing is read: that would have the server notice at once which keys have run out
	}
	// The keys are read before the contexts are asked again, not after: a context ends before its keys do, so that of
	// one that is still alive they must have been there.
	majority := c.plan.lawless || c.hasMajority(name)
	live := c.alive(name)
	if len(live) > 0 && !majority {
		c.fail(name, "%s believes to hold %s, and nobody has a majority of its keys", live[0].who, name)
	}
	for i, b := range live {
		for _, other := range live[i+1:] {
			if b.locker() == other.locker() {
				c.fail(name, "%s and %s both hold %s, and are of one Locker", b.who, other.who, name)
			}
		}
		if i == len(live)-1 {
			b.rivalled = time.Time{} // whoever came later was mistaken, and knows it by now
		} else if c.rivalled(b) {
			c.fail(name, "%s and %s both hold %s", b.who, live[len(live)-1].who, name)
		}
	}
}

// alive drops the beliefs that have ended. Under mu.
func (c *checker) alive(name string) []*belief {
	ended := func(b *belief) bool { return b.Err() != nil }
	c.live[name] = slices.DeleteFunc(c.live[name], ended)
	return c.live[name]
}

// rivalled tells whether a belief may not be, now that somebody else has come to the same later. In a lawless history it
// may for as long as it takes to find out.
func (c *checker) rivalled(b *belief) bool {
	if !c.plan.lawless {
		return true
	}
	if b.rivalled.IsZero() {
		b.rivalled = time.Now()
	}
	return time.Since(b.rivalled) > c.plan.longest()
}

// hasMajority tells whether somebody has a majority of a name's keys on the server.
func (c *checker) hasMajority(name string) bool {
	majority := int(c.plan.locker.KeyMajority)
	count := make(map[string]int, 2)
	for i := range 2*majority - 1 {
		if value, found := c.server.Get(keyOf(i, name)); found {
			if count[value]++; count[value] == majority {
				return true
			}
		}
	}
	return false
}

func keyOf(i int, name string) string { return fmt.Sprintf("sim:%d:%s", i, name) }
func nameOf(i int) string             { return string(rune('a' + i)) }

// fail notes a failure, with what led to it. Under mu.
func (c *checker) fail(name, format string, args ...any) {
	c.failures = append(c.failures, fmt.Sprintf(format, args...))
	if len(c.failures) == 1 {
		c.failures[0] += "; what led to it:\n" + c.trace.last(80, name)
	}
}

// blame is fail for everybody else.
func (c *checker) blame(name, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(name, format, args...)
}

// failed tells whether the history can stop.
func (c *checker) failed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.failures) > 0
}
