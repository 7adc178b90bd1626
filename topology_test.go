package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// failover is more than a cluster or sentinels take to replace a primary.
const failover = 20 * time.Second

// inCluster is a cluster of three primaries, each with a replica, that several specs share.
type inCluster struct {
	*lab.Cluster
	primaries []*lab.Server // when the cluster was started
}

func startCluster() *inCluster {
	GinkgoHelper()
	c, err := lab.StartCluster(3, 1, lab.Config{Args: []string{"--cluster-require-full-coverage", "no"}}) // or the death of one stops all
	Expect(err).NotTo(HaveOccurred())
	return &inCluster{Cluster: c, primaries: slices.Clone(c.Nodes[:3])}
}

// where lists the nodes that a lock's keys are on, in the order of the keys.
func (c *inCluster) where(m mix, name string) (nodes []*lab.Server) {
	GinkgoHelper()
	for _, key := range m.keys(name) {
		node, err := c.Primary(key)
		Expect(err).NotTo(HaveOccurred())
		nodes = append(nodes, node)
	}
	return nodes
}

// nameOn finds a name of which so many keys are on a node.
func (c *inCluster) nameOn(m mix, node *lab.Server, keys int) string {
	GinkgoHelper()
	for {
		name, n := unique(), 0
		for _, where := range c.where(m, name) {
			if where == node {
				n++
			}
		}
		if n == keys {
			return name
		}
	}
}

// left lists what keys there are on the primaries that run.
func (c *inCluster) left() (keys []string) {
	GinkgoHelper()
	for _, node := range c.primaries {
		keys = append(keys, keysOn(node)...)
	}
	return keys
}

// pair is two lockers that want the same locks.
type pair struct {
	mix
	a, b  ctxlock.Locker
	names []string
}

// handedOver has all those locks held, waited for, and handed over, all at once.
func handedOver(pairs ...pair) {
	GinkgoHelper()
	var work sync.WaitGroup
	for _, p := range pairs {
		for _, name := range p.names {
			ctx := bg()
			what := fmt.Sprintf("%s, %v", name, p.mix)
			work.Go(func() {
				defer GinkgoRecover()
				held, cancel, err := p.a.WithContext(ctx, name)
				Expect(err).NotTo(HaveOccurred(), what)
				defer cancel()
				_, _, err = p.b.TryWithContext(ctx, name)
				Expect(err).To(MatchError(ctxlock.ErrNotLocked), what)
				in := make(chan error, 1)
				go func() {
					next, cancel, err := p.b.WithContext(ctx, name)
					if err == nil && held.Err() == nil {
						err = errors.New("held twice")
					}
					if err == nil && next.Err() != nil {
						err = context.Cause(next)
					}
					cancel()
					in <- err
				}()
				Consistently(in, 3*validity/2, 100*time.Millisecond).ShouldNot(Receive(), what)
				Expect(held.Err()).NotTo(HaveOccurred(), "%s: %v", what, context.Cause(held))
				cancel()
				Eventually(in, 5*time.Second).Should(Receive(BeNil()), what)
			})
		}
	}
	work.Wait()
}

var _ = Describe("In a cluster", Ordered, ContinueOnFailure, Label("control"), func() {
	var c *inCluster
	BeforeAll(func() { c = startCluster() })
	AfterAll(func() { c.Stop() }) // and no cleanup, because those run after it is looked whether goroutines are left

	It("many locks are held, waited for and handed over, whatever their names", func() {
		var pairs []pair
		for _, m := range foreignMixes {
			p := pair{mix: m, a: locker(m.option(c.Addrs()...)), b: locker(m.option(c.Addrs()...))}
			for range 10 {
				p.names = append(p.names, unique())
			}
			for _, tag := range []string{"{a}", "a{b}c", "{}x", "{", "}", "a{b", "{a}{b}", "{{a}}", "}{", "x{}y{z}"} {
				p.names = append(p.names, tag+unique(), unique()+tag)
			}
			pairs = append(pairs, p)
		}
		handedOver(pairs...)
		Eventually(c.left, 2*time.Second).Should(BeEmpty())
	})

	It("the smallest ACL is that of a single server without its clock, and with the right to ask where slots are", func() {
		// Expiries are relative, for each node has a clock of its own.
		needs := mix{majority: 2, setPX: true}.permissions(c.Nodes[0].Binary)
		if slots := "cluster|slots"; c.Nodes[0].Binary.Name == "redis" && !c.Nodes[0].Binary.AtLeast("redis", 8) {
			needs = append(needs, slots)
		} else {
			needs = append(needs, "cluster|shards")
		}
		option := asUser(mix{majority: 2}, "")
		option.ClientOption.InitAddress = c.Addrs()
		exercise := func(name string) error {
			a, err := ctxlock.NewLocker(option)
			if err != nil {
				return err
			}
			defer a.Close()
			ctx, cancel, err := a.WithContext(bg(), name)
			defer cancel()
			if err != nil {
				return err
			}
			if err := lives(ctx, 3*validity/2); err != nil {
				return err
			}
			cancel()
			if left := c.left(); len(left) > 0 {
				return fmt.Errorf("not released: %q", left)
			}
			return nil
		}
		for _, node := range c.Nodes {
			Expect(allow(node, needs)).To(Succeed())
		}
		Expect(exercise(unique())).To(Succeed())
		for _, node := range c.Nodes {
			interfere(node, "ACL", "SETUSER", user, "-"+needs[len(needs)-1])
		}
		Expect(exercise(unique())).NotTo(Succeed())
	})

	It("a lock stays held, and waited for, when its slot is moved", func() {
		var finish []func()
		var still []func(Gomega)
		for _, m := range []mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}} {
			a, b, name := locker(m.option(c.Addrs()...)), locker(m.option(c.Addrs()...)), unique()
			held, cancel, err := a.WithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			in := waiting(b, name)
			for _, key := range m.keys(name) {
				Eventually(c.left).Should(ContainElement(key))
				slot, err := c.Slot(key)
				Expect(err).NotTo(HaveOccurred())
				from, err := c.Primary(key)
				Expect(err).NotTo(HaveOccurred())
				to := c.primaries[0]
				if from == to {
					to = c.primaries[1]
				}
				Expect(c.MoveSlot(slot, to)).To(Succeed())
			}
			still = append(still, func(g Gomega) {
				g.Expect(in).NotTo(Receive(), m.String())
				g.Expect(held.Err()).NotTo(HaveOccurred(), "%v: %v", m, context.Cause(held))
			})
			finish = append(finish, func() {
				cancel()
				Eventually(in, 2*time.Second).Should(Receive(BeNil()), m.String())
			})
		}
		Consistently(func(g Gomega) {
			for _, f := range still {
				f(g)
			}
		}, 3*validity/2).Should(Succeed())
		for _, f := range finish {
			f()
		}
		Eventually(c.left, 2*time.Second).Should(BeEmpty())
	})

	It("a node that stalls does not keep the locks on the others from being extended", func() {
		victim := c.primaries[1]
		one, two := locker(mix{majority: 1}.option(c.Addrs()...)), locker(mix{majority: 2}.option(c.Addrs()...))
		held := make(map[string]context.Context)
		doomed := make(map[string]context.Context)
		hold := func(l ctxlock.Locker, m mix) {
			name, on := unique(), 0
			for _, where := range c.where(m, name) {
				if where == victim {
					on++
				}
			}
			ctx, cancel, err := l.WithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(func() { go cancel() }) // closing the locker waits for them all at once
			if on < int(m.majority) {
				held[fmt.Sprintf("%s, %v, %d keys on it", name, m, on)] = ctx
			} else {
				doomed[name] = ctx
			}
		}
		for range 150 { // so many that some have slots just beside those of the other node
			hold(one, mix{majority: 1})
		}
		for range 20 {
			hold(two, mix{majority: 2})
		}
		victim.Freeze()
		DeferCleanup(victim.Thaw)
		Consistently(func(g Gomega) {
			for what, ctx := range held {
				g.Expect(ctx.Err()).NotTo(HaveOccurred(), "%s: %v", what, context.Cause(ctx))
			}
		}, 2*validity, 50*time.Millisecond).Should(Succeed())
		for name, ctx := range doomed {
			Expect(ctx.Err()).To(HaveOccurred(), name)
		}
		for name := range doomed { // any of them
			next, err := c.AwaitFailover(key(0, name), victim)
			Expect(err).NotTo(HaveOccurred())
			c.primaries[1] = next
			victim.Thaw()
			Eventually(func() (*lab.Server, error) { return c.Primary(key(0, name)) }, failover).Should(Equal(next), "all agree")
			break
		}
	})

	It("the death of a node ends the locks whose majority was on it, no others, and who waits gets in when it is replaced", func() {
		one, two := mix{majority: 1}, mix{majority: 2}
		victim := c.primaries[0]
		type holding struct {
			mix
			name   string
			on     int // how many of its keys are on the victim
			ctx    context.Context
			cancel context.CancelFunc
			in     <-chan error
		}
		var locks []*holding
		lockers := make(map[mix][2]ctxlock.Locker)
		for _, m := range []mix{one, two, {majority: 1, polling: true}} {
			lockers[m] = [2]ctxlock.Locker{locker(m.option(c.Addrs()...)), locker(m.option(c.Addrs()...))}
			for on := range int(min(3, 2*m.majority)) {
				l := &holding{mix: m, name: c.nameOn(m, victim, on), on: on}
				var err error
				l.ctx, l.cancel, err = lockers[m][0].WithContext(bg(), l.name)
				Expect(err).NotTo(HaveOccurred())
				for _, key := range m.keys(l.name) { // or it may be held by a majority only, so far
					Eventually(c.left).Should(ContainElement(key))
				}
				l.in = waiting(lockers[m][1], l.name)
				locks = append(locks, l)
			}
		}
		patient := one.option(c.Addrs()...)
		patient.KeyValidity = 10 * time.Second
		stays := c.nameOn(one, victim, 1)
		held, release, err := locker(patient).WithContext(bg(), stays)
		Expect(err).NotTo(HaveOccurred())
		// What the replica does not have yet, its promotion loses.
		Eventually(func() (int64, error) {
			acks, err := victim.Do("WAIT", "1", "1000")
			return acks.(int64), err
		}).Should(BeEquivalentTo(1))

		victim.Kill()
		for _, l := range locks {
			if l.on < int(l.majority) {
				continue
			}
			Eventually(l.ctx.Done(), 2*validity).Should(BeClosed(), "%v, %d keys", l, l.on)
			var lost *ctxlock.LostError
			Expect(errors.As(context.Cause(l.ctx), &lost)).To(BeTrue())
			Expect(lost.Reason).To(Equal(ctxlock.Expired))
			Expect(lost.Err).To(HaveOccurred(), "it says why")
			l.cancel()
		}
		next, err := c.AwaitFailover(key(0, stays), victim)
		Expect(err).NotTo(HaveOccurred())
		c.primaries[0] = next

		for _, l := range locks {
			if l.on >= int(l.majority) {
				Eventually(l.in, failover).Should(Receive(BeNil()), "%v, %d keys", l, l.on)
				continue
			}
			Expect(l.ctx.Err()).NotTo(HaveOccurred(), "%v, %d keys: %v", l, l.on, context.Cause(l.ctx))
			Expect(l.in).NotTo(Receive())
			l.cancel()
			Eventually(l.in, failover).Should(Receive(BeNil()), "%v, %d keys", l, l.on)
		}
		var pairs []pair
		for _, m := range []mix{one, two} {
			pairs = append(pairs, pair{m, lockers[m][0], lockers[m][1], []string{c.nameOn(m, next, 1), unique(), unique()}})
		}
		handedOver(pairs...)

		// Replicated, and not run out in the meantime: extended on the successor.
		Eventually(func() int64 { return pttl(next, key(0, stays)) }, failover).Should(BeNumerically(">", 8000))
		Expect(held.Err()).NotTo(HaveOccurred())
		release()
		Eventually(c.left, 3*time.Second).Should(BeEmpty())
	})
})

var _ = Describe("With sentinels", Ordered, ContinueOnFailure, Label("control"), func() {
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

	It("locks are held, waited for and handed over", func() {
		var pairs []pair
		for _, m := range []mix{{majority: 1}, {majority: 2}} {
			pairs = append(pairs, pair{m, locker(option(m)), locker(option(m)), []string{unique(), unique()}})
		}
		handedOver(pairs...)
	})

	It("the death of the primary ends what runs out before it has been replaced, and nothing else, and those who wait get in", func() {
		var long, dead, short []func()
		var pairs []pair
		old, err := s.Primary()
		Expect(err).NotTo(HaveOccurred())
		var next *lab.Server
		for _, m := range []mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}} {
			a, b, name := locker(option(m)), locker(option(m)), unique()
			held, cancel, err := a.WithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			in := waiting(b, name)
			dead = append(dead, func() {
				Eventually(held.Done(), 2*validity).Should(BeClosed(), m.String())
				var lost *ctxlock.LostError
				Expect(errors.As(context.Cause(held), &lost)).To(BeTrue())
				Expect(lost.Reason).To(Equal(ctxlock.Expired))
				start := time.Now()
				cancel()
				Expect(time.Since(start)).To(BeNumerically("<", 5*time.Second), "bounded, with no server")
			})
			short = append(short, func() {
				Eventually(in, failover).Should(Receive(BeNil()), m.String())
			})
			pairs = append(pairs, pair{m, a, b, []string{name}})

			patient, stays := option(m), unique()
			patient.KeyValidity = 12 * time.Second
			kept, release, err := locker(patient).WithContext(bg(), stays)
			Expect(err).NotTo(HaveOccurred())
			long = append(long, func() {
				Eventually(func() int64 { return pttl(next, key(0, stays)) }, failover).Should(BeNumerically(">", 10000), m.String())
				Expect(kept.Err()).NotTo(HaveOccurred(), m.String())
				release()
			})
		}
		Eventually(func() (int64, error) {
			acks, err := old.Do("WAIT", "1", "1000")
			return acks.(int64), err
		}).Should(BeEquivalentTo(1))
		_, err = s.KillPrimary()
		Expect(err).NotTo(HaveOccurred())
		for _, f := range dead {
			f()
		}
		next, err = s.AwaitFailover(old)
		Expect(err).NotTo(HaveOccurred())
		for _, f := range short {
			f()
		}
		handedOver(pairs...)
		for _, f := range long {
			f()
		}
		Eventually(func() []string { return keysOn(next) }, 3*time.Second).Should(BeEmpty())
	})
})
