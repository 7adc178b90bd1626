package ctxlock_test

import (
	"context"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gcustom"
	"github.com/onsi/gomega/types"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// checker watches that no two contexts for one name are alive at once.
type checker struct {
	mu       sync.Mutex
	holder   context.Context // the last that entered alive
	entered  int
	overlaps int
}

// enter is to be called with each context as soon as it was handed out. The order of its two looks is what makes it certain: a
// holder that is alive before ctx was seen alive, when ctx had been handed out already, was alive together with it.
func (c *checker) enter(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entered++
	before := c.holder != nil && c.holder.Err() == nil
	if ctx.Err() != nil {
		return
	}
	if before {
		c.overlaps++
	}
	c.holder = ctx
}

func (c *checker) result() (entered, overlaps int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entered, c.overlaps
}

// exclusive fails the spec if two contexts were alive at once.
func (c *checker) exclusive() {
	GinkgoHelper()
	entered, overlaps := c.result()
	Expect(overlaps).To(BeZero(), "contexts that were alive together with another, of %d", entered)
}

// taking is WithContext, TryWithContext or ForceWithContext of some locker.
type taking func(context.Context, string) (context.Context, context.CancelFunc, error)

// holding is a lock that a spec holds.
type holding struct {
	context.Context
	release context.CancelFunc
}

// take takes a lock that can be had.
func take(ctx context.Context, how taking, name string) holding {
	GinkgoHelper()
	held, release, err := how(ctx, name)
	Expect(err).NotTo(HaveOccurred())
	Expect(held.Err()).NotTo(HaveOccurred(), "it has just been acquired")
	return holding{held, release}
}

// pending is a call on its way. What it gave may be read once done is closed.
type pending struct {
	holding
	err  error
	took time.Duration
	done chan struct{}
}

// begin makes a call on a goroutine of its own. If it gets the lock, the check enters its context, before anything else.
func begin(ctx context.Context, how taking, name string, check *checker) *pending {
	p := &pending{done: make(chan struct{})}
	start := time.Now()
	go func() {
		defer close(p.done)
		p.Context, p.release, p.err = how(ctx, name)
		if check != nil && p.err == nil {
			check.enter(p.Context)
		}
		p.took = time.Since(start)
	}()
	return p
}

// beginCall is begin for a call that gives nothing.
func beginCall(f func()) *pending {
	return begin(context.Background(), func(context.Context, string) (context.Context, context.CancelFunc, error) {
		f()
		return nil, nil, nil
	}, "", nil)
}

// gets waits until the call has the lock, for at most a time.
func (p *pending) gets(within time.Duration) holding {
	GinkgoHelper()
	p.returns(within)
	Expect(p.err).NotTo(HaveOccurred())
	return p.holding
}

// fails waits until the call has returned an error, which is bare of a lock.
func (p *pending) fails(within time.Duration) error {
	GinkgoHelper()
	p.returns(within)
	Expect(p.err).To(HaveOccurred())
	Expect(p.Context.Err()).To(HaveOccurred(), "the context beside an error has ended")
	p.release() // it is never nil
	return p.err
}

func (p *pending) returns(within time.Duration) {
	GinkgoHelper()
	Eventually(p.done).WithTimeout(within).WithPolling(time.Millisecond).Should(BeClosed(), "the call returns")
}

// end waits for the end of a context and gives its cause.
func end(ctx context.Context, within time.Duration) error {
	GinkgoHelper()
	Eventually(ctx.Done()).WithTimeout(within).WithPolling(time.Millisecond).Should(BeClosed(), "the context ends")
	return context.Cause(ctx)
}

// beLost matches the cause of a lock that was lost.
func beLost(name string, reason ctxlock.Reason) types.GomegaMatcher {
	type fields struct {
		Name   string
		Reason ctxlock.Reason
	}
	return WithTransform(func(err error) fields {
		var lost *ctxlock.LostError
		Expect(err).To(MatchError(ctxlock.ErrLost))
		Expect(err).To(BeAssignableToTypeOf(lost))
		lost = err.(*ctxlock.LostError)
		return fields{lost.Name, lost.Reason}
	}, Equal(fields{name, reason}))
}

// takeLessThan matches a function that returns within a time.
func takeLessThan(most time.Duration) types.GomegaMatcher {
	var took time.Duration
	return gcustom.MakeMatcher(func(f func()) (bool, error) {
		start := time.Now()
		f()
		took = time.Since(start)
		return took < most, nil
	}).WithTemplate("Expected a call to take less than {{.Data}}", most)
}

// together runs f for each at once and waits for all. An assertion that fails ends only its own. Since the report has the
// first failure alone, the others are noted.
func together[T any](all []T, f func(T)) {
	var wg sync.WaitGroup
	for _, each := range all {
		wg.Go(func() {
			defer GinkgoRecover()
			passed := false
			defer func() {
				if !passed {
					GinkgoWriter.Println("failed:", each)
				}
			}()
			f(each)
			passed = true
		})
	}
	wg.Wait()
}

// upTo lists the numbers below n.
func upTo(n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	return numbers
}

// ttl asks a server how long a key has to live; below zero: there is none, or it does not run out.
func ttl(s *lab.Server, key string) time.Duration {
	GinkgoHelper()
	reply, err := s.Do("PTTL", key)
	Expect(err).NotTo(HaveOccurred())
	return time.Duration(reply.(int64)) * time.Millisecond
}

// firstKey is the key that a lock has whatever its majority.
func firstKey(name string) string { return "valkeylock:0:" + name }

// nothingLeft waits until a server has no key any more, and sees that no late one turns up. It is for servers that do nothing but
// what the spec looks at.
func nothingLeft(s *lab.Server, within time.Duration) {
	GinkgoHelper()
	Eventually(func() []string { return keysOn(s) }).WithTimeout(within).WithPolling(10 * time.Millisecond).MustPassRepeatedly(20).Should(BeEmpty())
}
