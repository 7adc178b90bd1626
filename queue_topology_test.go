package ctxlock_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gleak"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// queueBeside is the key of the queue of those who wait for a name, whatever the name: it has to be in the slot of the first key.
func queueBeside(name string) string {
	if strings.Contains(name, "{") && strings.Contains(name, "}") {
		return "valkeylock:z:" + name
	}
	return queueOf(name)
}

// stands begins a wait in a cluster, and returns once it stands in the queue as the nth.
func (c *inCluster) stands(l ctxlock.Locker, name string, n int, check *checker) *pending {
	GinkgoHelper()
	waiter := begin(bg(), l.WithContext, name, check)
	c.standing(name, n)
	return waiter
}

// standing waits until so many stand in the queue.
func (c *inCluster) standing(name string, n int) {
	GinkgoHelper()
	node, err := c.Primary(firstKey(name))
	Expect(err).NotTo(HaveOccurred())
	Eventually(func() (any, error) { return node.Do("ZCARD", queueBeside(name)) }).WithTimeout(soon).WithPolling(time.Millisecond).
		Should(BeEquivalentTo(n), "in the queue of "+name)
}

// nameOnFirst finds a name whose first key, and with it the queue, is on a node that has none of its other keys.
func (c *inCluster) nameOnFirst(m mix, node *lab.Server) string {
	GinkgoHelper()
	for {
		name := c.nameOn(m, node, 1)
		if where := c.where(m, name); where[0] == node {
			return name
		}
	}
}

// handedTo has a lock handed from one to the other, which so knows that somebody may stand in the queue.
func (c *inCluster) handedTo(from, to ctxlock.Locker, name string, check *checker) holding {
	GinkgoHelper()
	first := take(bg(), from.WithContext, name)
	if check != nil {
		check.enter(first)
	}
	next := c.stands(to, name, 1, check)
	first.release()
	return next.gets(soon)
}

// published is how many messages the nodes have passed on to each other.
func (c *inCluster) published() (n int64) {
	GinkgoHelper()
	for _, node := range c.primaries {
		n += max(0, node.Calls("publish"), node.Calls("spublish"))
	}
	return n
}

var _ = Describe("In a cluster, the queue", Ordered, ContinueOnFailure, Label("control"), func() {
	var c *inCluster
	BeforeAll(func() { c = startCluster() })
	AfterAll(func() { c.Stop() }) // and no cleanup: see topology_test.go
	BeforeEach(func() {
		before := gleak.Goroutines()
		DeferCleanup(func() { // after it has asked where slots are, the client (v1.0.79) leaves a goroutine that sleeps for 5s
			Eventually(gleak.Goroutines).WithTimeout(10 * time.Second).WithPolling(50 * time.Millisecond).ShouldNot(gleak.HaveLeaked(before))
		})
	})
	one := mix{majority: 1}

	It("has waiters of several lockers served in the order in which they came, whatever the name", func() {
		var names []string
		for _, tag := range []string{"", "", "{a}", "a{b}c", "{", "{}", "a{b"} {
			names = append(names, tag+unique())
		}
		together(names, func(name string) {
			if strings.Contains(name, "{}") {
				name = "{x" + name + "}y" // a tag that has one in it
			}
			const crowd = 6
			check, served := new(checker), make(chan int, crowd)
			first := c.handedTo(locker(one.option(c.Addrs()...)), locker(one.option(c.Addrs()...)), name, check)
			var waiters []*pending
			for i := range crowd {
				l := locker(one.option(c.Addrs()...))
				waiters = append(waiters, begin(bg(), func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
					held, release, err := l.WithContext(ctx, name)
					served <- i
					return held, release, err
				}, name, check))
				c.standing(name, i+1)
			}
			first.release()
			for i, waiter := range waiters {
				held := waiter.gets(busy)
				Expect(served).To(Receive(Equal(i)), name)
				held.release()
			}
			check.exclusive()
		})
		Eventually(c.left, soon).Should(BeEmpty())
	})

	It("is done without for names that keep it from the key's slot, and all get in, also with more than one key", func() {
		var pairs []pair
		for _, m := range []mix{{majority: 1}, {majority: 2}} {
			p := pair{mix: m, a: locker(m.option(c.Addrs()...)), b: locker(m.option(c.Addrs()...))}
			p.names = append(p.names, "}"+unique(), "}{"+unique(), unique()+"}")
			if m.majority == 2 {
				p.names = append(p.names, unique())
			}
			pairs = append(pairs, p)
		}
		handedOver(pairs...)
		Eventually(c.left, soon).Should(BeEmpty())
	})

	for _, m := range []mix{{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}} {
		It(fmt.Sprintf("or what there is instead keeps a crowd apart, everybody gets in, and nothing is told to all nodes (%v)", m), func() {
			option := m.option(c.Addrs()...)
			option.KeyValidity = 5 * time.Second
			contest, ctx := newContest(8), bg()
			before := c.published()
			for i := range contest.visits {
				contest.enter(ctx, i, locker(option).WithContext)
			}
			for i := range contest.visits {
				Eventually(contest.visits[i].Load).WithTimeout(20*time.Second).Should(BeNumerically(">=", 20), "taker %d", i)
			}
			contest.over()
			Expect(c.published()).To(Equal(before))
			Eventually(c.left, soon).Should(BeEmpty())
		})
	}

	It("has processes in it that were killed, or are stopped, and they cost no more than one validity together", func() {
		together([]mix{{majority: 1}, {majority: 2}}, func(m mix) {
			name, check := unique(), new(checker)
			first := c.handedTo(locker(m.option(c.Addrs()...)), locker(m.option(c.Addrs()...)), name, check)
			var all []*child
			for i := range 4 {
				all = append(all, startChildOn(c.Addrs(), byMessage, m, name))
				c.standing(name, i+1)
			}
			live := []*pending{
				c.stands(locker(m.option(c.Addrs()...)), name, len(all)+1, check), c.stands(locker(m.option(c.Addrs()...)), name, len(all)+2, check),
			}
			for i, one := range all {
				if i%2 == 0 {
					Expect(one.Kill()).To(Succeed())
				} else {
					Expect(one.Signal(syscall.SIGSTOP)).To(Succeed())
				}
			}
			start := time.Now()
			first.release()
			first = eitherOf(live, chosen)
			Consistently(first.Err, validity/4).Should(Succeed()) // by then the other has claimed again
			first.release()
			inAnyOrder(live, busy)
			GinkgoWriter.Println("both have had it", time.Since(start), "after the release:", m)
			for _, one := range all {
				Expect(one.Kill()).To(Succeed())
				_, err := one.Wait()
				Expect(err).NotTo(HaveOccurred())
			}
			check.exclusive()
			node, err := c.Primary(firstKey(name))
			Expect(err).NotTo(HaveOccurred())
			interfere(node, "DEL", "valkeylock:Q:{"+firstKey(name)+"}") // the notes that they waited, for people to see
		})
		Eventually(c.left, soon).Should(BeEmpty())
	})

	It("goes with its slot: the holder stays, and each of those who wait gets the lock within a look", func() {
		together(upTo(3), func(int) {
			name, check := unique(), new(checker)
			first := c.handedTo(locker(one.option(c.Addrs()...)), locker(one.option(c.Addrs()...)), name, check)
			var waiters []*pending
			for i := range 3 {
				waiters = append(waiters, c.stands(locker(one.option(c.Addrs()...)), name, i+1, check))
			}
			c.move(name)
			Consistently(func() error { return context.Cause(first) }, 5*validity/4).Should(Succeed())
			for _, waiter := range waiters {
				Expect(waiter.done).NotTo(BeClosed())
			}
			first.release()
			inAnyOrder(waiters, lookAgain(validity)+busy)
			check.exclusive()
			again := c.handedTo(locker(one.option(c.Addrs()...)), locker(one.option(c.Addrs()...)), name, check)
			again.release()
		})
		Eventually(c.left, soon).Should(BeEmpty())
	})

	It("goes with its slot again and again, among those who hand the lock to each other", func() {
		option := one.option(c.Addrs()...)
		contest := newContest(6)
		ctx, end := context.WithTimeout(context.Background(), 2*time.Minute)
		defer end()
		for i := range contest.visits {
			contest.enter(ctx, i, locker(option).WithContext)
		}
		for range 4 {
			before := contest.handoffs()
			Eventually(contest.handoffs).WithTimeout(10 * soon).Should(BeNumerically(">", before+100))
			c.move(contest.name)
		}
		var before [6]int64
		for i := range before {
			before[i] = contest.visits[i].Load()
		}
		for i := range before { // right after a move a change of hands may take a look, which is a validity
			Eventually(contest.visits[i].Load).WithTimeout(6*6*lookAgain(validity)).Should(BeNumerically(">", before[i]+5), "taker %d", i)
		}
		contest.over()
		Eventually(c.left, soon).Should(BeEmpty())
	})

	It("is on the successor of a node that dies, or is made anew there, and all who wait get the lock", func() {
		victim := c.primaries[0]
		option := one.option(c.Addrs()...)
		name, check := c.nameOn(one, victim, 1), new(checker)
		first := c.handedTo(locker(option), locker(option), name, check)
		var waiters []*pending
		for i := range 4 {
			waiters = append(waiters, c.stands(locker(option), name, i+1, check))
		}
		Eventually(func() (any, error) { return victim.Do("WAIT", "1", "1000") }).Should(BeEquivalentTo(1))
		victim.Kill()
		Expect(end(first, validity+busy)).To(beLost(name, ctxlock.Expired))
		first.release()
		next, err := c.AwaitFailover(firstKey(name), victim)
		Expect(err).NotTo(HaveOccurred())
		c.primaries[0] = next
		inAnyOrder(waiters, failover)
		check.exclusive()
		again := c.handedTo(locker(option), locker(option), name, check)
		waiter := c.stands(locker(option), name, 1, check)
		again.release()
		waiter.gets(busy).release()
		Eventually(c.left, soon).Should(BeEmpty())
	})
})

var _ = Describe("In a cluster whose queues are on one of several nodes, a queue", Ordered, ContinueOnFailure, Label("control"), func() {
	var c *inCluster
	BeforeAll(func() { // nodes that do not answer are not replaced
		cluster, err := lab.StartCluster(3, 0, lab.Config{Args: []string{"--cluster-node-timeout", "60000"}})
		Expect(err).NotTo(HaveOccurred())
		c = &inCluster{Cluster: cluster, primaries: cluster.Nodes}
	})
	AfterAll(func() { c.Stop() })
	BeforeEach(func() {
		before := gleak.Goroutines()
		DeferCleanup(func() { // see above
			Eventually(gleak.Goroutines).WithTimeout(10 * time.Second).WithPolling(50 * time.Millisecond).ShouldNot(gleak.HaveLeaked(before))
		})
	})

	// patience is how long an attempt takes.
	split, patience := mix{majority: 2}, 500*time.Millisecond
	impatient := func() ctxlock.Locker {
		option := split.option(c.Addrs()...)
		option.TryNextAfter = patience
		return locker(option)
	}

	It("is not left by others when a wait is given up in the middle of its claim", func() {
		victim := c.Nodes[0]
		name, other, check := c.nameOnFirst(split, victim), c.nameOn(split, victim, 0), new(checker)
		a, b := impatient(), impatient()
		holders := []holding{take(bg(), a.WithContext, name), take(bg(), a.WithContext, other)}
		for _, h := range holders {
			check.enter(h)
		}
		victim.Freeze()
		ctx, cancel := context.WithCancel(bg())
		gone := begin(ctx, b.WithContext, name, nil)
		Consistently(gone.done, patience/5).ShouldNot(BeClosed())
		cancel()
		Expect(gone.fails(busy)).To(MatchError(context.Canceled))
		victim.Thaw()
		for i, name := range []string{name, other} {
			waiter := c.stands(b, name, 1, nil)
			holders[i].release()
			waiter.gets(soon).release()
		}
		Eventually(c.left, soon).Should(BeEmpty())
	})

	It("is done without where its node does not answer, also if no caller waits for that, and there alone", func() {
		victim := c.Nodes[0]
		a, b := impatient(), impatient()
		names := []string{c.nameOnFirst(split, victim), c.nameOnFirst(split, victim)}
		other := c.nameOn(split, victim, 0)
		held := take(bg(), a.WithContext, other)
		lockers := []ctxlock.Locker{a, b}
		for i, name := range names { // so that it goes to the queue at once
			c.handedTo(lockers[1-i], lockers[i], name, nil).release()
		}
		victim.Freeze()
		defer victim.Thaw()
		got := func(l ctxlock.Locker, name string) func() error { // in less time than an attempt takes
			return func() error {
				ctx, cancel := context.WithTimeout(bg(), patience/2)
				defer cancel()
				_, release, err := l.WithContext(ctx, name)
				go release()
				return err
			}
		}
		waits := begin(bg(), a.WithContext, names[0], nil).gets(soon)
		go waits.release()
		Eventually(got(b, names[1])).WithTimeout(soon).Should(Succeed())
		waiter := c.stands(b, other, 1, nil)
		held.release()
		waiter.gets(soon).release()
	})
})

// eitherOf waits until one of two has the lock.
func eitherOf(waiters []*pending, within time.Duration) holding {
	GinkgoHelper()
	select {
	case <-waiters[0].done:
		return waiters[0].gets(0)
	case <-waiters[1].done:
		return waiters[1].gets(0)
	case <-time.After(within):
		Fail("neither has it")
		return holding{}
	}
}

// moving is held while a slot is moved: a cluster is told of one move at a time.
var moving sync.Mutex

// move moves the slot of a name to another primary.
func (c *inCluster) move(name string) {
	GinkgoHelper()
	moving.Lock()
	defer moving.Unlock()
	slot, err := c.Slot(firstKey(name))
	Expect(err).NotTo(HaveOccurred())
	from, err := c.Primary(firstKey(name))
	Expect(err).NotTo(HaveOccurred())
	to := c.primaries[0]
	if from == to {
		to = c.primaries[1]
	}
	Expect(c.MoveSlot(slot, to)).To(Succeed())
}

// waited is a lock that several wait for.
type waited struct {
	m       mix
	name    string
	check   *checker
	lockers []ctxlock.Locker
	first   holding
	waiters []*pending
}

// subscribes is how long a Locker takes at the most to open its inbox again: it tries every five seconds, or more often.
const subscribes = 5 * time.Second

// promptly sees that handoffs take no look again once inboxes are open.
func (w *waited) promptly(s *lab.Server) {
	GinkgoHelper()
	began := time.Now()
	for {
		held := handedTo(s, w.lockers[0], w.lockers[1], w.name, w.check)
		waiter := stand(s, w.lockers[2].WithContext, w.name, 1, w.check)
		start := time.Now()
		held.release()
		waiter.gets(lookAgain(validity) + busy).release()
		if time.Since(start) < validity/4 {
			GinkgoWriter.Println("handoffs are prompt after", time.Since(began), w.m)
			return
		}
		Expect(time.Since(began)).To(BeNumerically("<", subscribes+2*lookAgain(validity)+busy), w.m.String())
	}
}

var _ = Describe("With sentinels, the queue", Ordered, ContinueOnFailure, Label("control"), func() {
	var s *lab.Sentinel
	BeforeAll(func() {
		var err error
		s, err = lab.StartSentinel(lab.Config{})
		Expect(err).NotTo(HaveOccurred())
	})
	AfterAll(func() { s.Stop() })
	option := func(m mix) ctxlock.LockerOption {
		option := m.option(s.Addrs()...)
		option.ClientOption.Sentinel.MasterSet = s.MasterSet
		return option
	}

	It("is on the successor of a primary that dies, and all who wait get the lock, and are told there", func() {
		old, err := s.Primary()
		Expect(err).NotTo(HaveOccurred())
		var all []*waited
		for _, m := range []mix{{majority: 1}, {majority: 2}} {
			w := &waited{m: m, name: unique(), check: new(checker)}
			for range 5 {
				w.lockers = append(w.lockers, locker(option(m)))
			}
			w.first = handedTo(old, w.lockers[0], w.lockers[1], w.name, w.check)
			for i, l := range w.lockers[2:] {
				w.waiters = append(w.waiters, stand(old, l.WithContext, w.name, i+1, w.check))
			}
			all = append(all, w)
		}
		Eventually(func() (any, error) { return old.Do("WAIT", "1", "1000") }).Should(BeEquivalentTo(1))
		_, err = s.KillPrimary()
		Expect(err).NotTo(HaveOccurred())
		for _, w := range all {
			Expect(end(w.first, validity+busy)).To(beLost(w.name, ctxlock.Expired))
			go w.first.release()
		}
		next, err := s.AwaitFailover(old)
		Expect(err).NotTo(HaveOccurred())
		together(all, func(w *waited) {
			inAnyOrder(w.waiters, failover)
			w.check.exclusive()
			w.promptly(next)
			w.check.exclusive()
		})
		Eventually(func() []string { return keysOn(next) }, soon).Should(BeEmpty())
	})
})

var _ = Describe("With a majority of two of three keys on one server, a handoff", func() {
	two := mix{majority: 2}
	for _, r := range routes {
		for i := range 3 {
			It(fmt.Sprintf("leaves key %d to whoever else has it, and takes it when it is free, told %s", i, r), func() {
				s := r.server()
				c := crowd(s, r, two)
				first, second := c.stands(c.locker(s.Addr())), c.stands(c.locker(s.Addr()))
				theirs := key(i, c.name)
				interfere(s, "SET", theirs, "theirs", "PX", "60000")
				Consistently(c.first.Err, validity/4).Should(Succeed())
				c.first.release()
				held := first.gets(lookAgain(validity) + busy)
				Consistently(held.Err, 5*validity/4).Should(Succeed(), "held by the other two")
				Expect(s.Do("GET", theirs)).To(Equal("theirs"))
				Expect(second.done).NotTo(BeClosed())
				interfere(s, "DEL", theirs)
				held.release()
				held = second.gets(lookAgain(validity) + busy)
				value, err := s.Do("GET", key((i+1)%3, c.name))
				Expect(err).NotTo(HaveOccurred())
				Eventually(func() (any, error) { return s.Do("GET", theirs) }).WithTimeout(validity).Should(Equal(value))
				held.release()
				c.check.exclusive()
				nothingLeft(s, soon)
			})
		}

		It("gives all three, also one that had vanished, told "+string(r), func() {
			s := r.server()
			c := crowd(s, r, two)
			waiter := c.stands(c.locker(s.Addr()))
			deleted := beginCall(func() { interfere(s, "DEL", key(1, c.name)) })
			deleted.returns(soon)
			c.first.release()
			held := waiter.gets(busy)
			for i := range 3 {
				Expect(ttl(s, key(i, c.name))).To(BeNumerically(">", 0), "key %d", i)
			}
			held.release()
			c.check.exclusive()
			nothingLeft(s, soon)
		})
	}
})

var _ = Describe("On independent nodes, waiters", Label("control"), func() {
	// among has several take a lock from each other until each has had it so often.
	among := func(d *independents, during func()) {
		GinkgoHelper()
		contest, ctx := newContest(6), bg()
		for i := range contest.visits {
			contest.enter(ctx, i, d.redlockOnAll(d.option()).WithContext)
		}
		during()
		var before [6]int64
		for i := range before {
			before[i] = contest.visits[i].Load()
		}
		for i := range before {
			Eventually(contest.visits[i].Load).WithTimeout(20*time.Second).Should(BeNumerically(">=", before[i]+5), "taker %d", i)
		}
		contest.over()
	}

	It("of several lockers exclude each other, and all get in", func() {
		d := independent(3)
		among(d, func() {})
		d.nothingLeft()
	})

	It("of several lockers get in as well while a node does not answer, and when it is back", func() {
		d := independent(3)
		among(d, func() { d.servers[1].Freeze() })
		d.servers[1].Thaw()
		among(d, func() {})
		d.nothingLeft()
	})

	It("get in when the first node stops, and again when that happens once more", func() {
		d, name, check := independent(3), unique(), new(checker)
		a, b := d.redlockOnAll(d.option()), d.redlockOnAll(d.option())
		for range 2 {
			first := take(bg(), a.WithContext, name)
			check.enter(first)
			waiter := begin(bg(), b.WithContext, name, check)
			d.servers[0].Freeze()
			Consistently(first.Err, 3*validity/2).Should(Succeed(), "held by the other two")
			Expect(waiter.done).NotTo(BeClosed())
			first.release()
			held := waiter.gets(2*lookAgain(validity) + soon)
			Consistently(held.Err, 3*validity/2).Should(Succeed())
			held.release()
			d.servers[0].Thaw()
			Eventually(func() string { return d.value(0, name) }).WithTimeout(2 * soon).Should(BeEmpty())
		}
		check.exclusive()
		d.nothingLeft()
	})
})
