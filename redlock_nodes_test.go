package ctxlock_test

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// nodePatience is the TryNextAfter of specs with nodes that do not answer in time. It leaves those that are well enough of it on a
// busy machine.
const nodePatience = time.Second

// fate is what befalls a node, and what an attempt has to say of it.
type fate struct {
	what    string
	outcome ctxlock.Outcome
	befall  func(d *independents, i int, name string) // before an attempt at the name; nil: nothing
}

func (f fate) String() string { return f.what }

// quick tells whether such a node answers at once.
func (f fate) quick() bool { return f.outcome != ctxlock.NodeLate }

var (
	fine     = fate{"fine", ctxlock.NodeGranted, nil}
	refusing = fate{"refusing", ctxlock.NodeFailed, func(d *independents, i int, _ string) {
		d.links[i].Refuse(true)
		d.links[i].Cut()
	}}
	slow    = fate{"slow", ctxlock.NodeLate, func(d *independents, i int, _ string) { d.links[i].Delay(nodePatience) }}
	stalled = fate{"stalled", ctxlock.NodeLate, func(d *independents, i int, _ string) { d.links[i].Stall(lab.Both) }}
	foreign = fate{"taken", ctxlock.NodeTaken, func(d *independents, i int, name string) {
		GinkgoHelper()
		interfere(d.servers[i], "SET", key(i, name), "stranger", "PX", "60000")
	}}
)

// combinations is every way to deal out fates to n nodes.
func combinations(n int, fates ...fate) (all [][]fate) {
	all = [][]fate{nil}
	for range n {
		var longer [][]fate
		for _, some := range all {
			for _, f := range fates {
				longer = append(longer, append(slices.Clip(some), f))
			}
		}
		all = longer
	}
	return all
}

// tally counts what decides an attempt.
func tally(fates []fate) (granting, against int) {
	for _, f := range fates {
		switch {
		case f.outcome == ctxlock.NodeGranted:
			granting++
		case f.quick():
			against++
		}
	}
	return granting, against
}

// expectVerdict sees that an attempt ends as the fates of the nodes say, as soon as that is decided. It gives the lock, if there is one.
func (d *independents) expectVerdict(call *pending, name string, fates []fate, addresses []string) (held *holding) {
	GinkgoHelper()
	needed := len(fates)/2 + 1
	granting, against := tally(fates)
	call.returns(nodePatience + soon)
	if decided := granting >= needed || against > len(fates)-needed; decided {
		Expect(call.took).To(BeNumerically("<", nodePatience*9/10), "%v", fates)
	} else {
		Expect(call.took).To(And(BeNumerically(">", nodePatience*9/10), BeNumerically("<", nodePatience+busy)), "%v", fates)
	}
	if granting >= needed {
		l := call.gets(soon)
		return &l
	}
	err := call.fails(soon)
	said := quorum(err)
	Expect(said.Name).To(Equal(name))
	Expect(said.Needed).To(Equal(needed))
	Expect(said.Nodes).To(HaveLen(len(fates)))
	heard := make(map[ctxlock.Outcome]int)
	for i, node := range said.Nodes {
		Expect(node.Node).To(Equal(addresses[i]))
		heard[node.Outcome]++
		if against > len(fates)-needed { // it did not take all answers to decide it
			Expect(node.Outcome).To(BeElementOf(fates[i].outcome, ctxlock.NodeUnheard), "%v, node %d: %v", fates, i, err)
		} else {
			Expect(node.Outcome).To(Equal(fates[i].outcome), "%v, node %d: %v", fates, i, err)
		}
		Expect(node.Holder).To(Equal(map[bool]string{true: "stranger"}[node.Outcome == ctxlock.NodeTaken]))
		if node.Outcome == ctxlock.NodeGranted || node.Outcome == ctxlock.NodeTaken {
			Expect(node.Err).NotTo(HaveOccurred())
		} else {
			Expect(node.Err).To(HaveOccurred())
			Expect(err).To(MatchError(node.Err))
		}
	}
	taken, failed := heard[ctxlock.NodeTaken], heard[ctxlock.NodeFailed]+heard[ctxlock.NodeLate]
	Expect(taken+failed).To(BeNumerically(">", len(fates)-needed), "%v: that alone rules out a majority: %v", fates, err)
	Expect(said.ToOthers()).To(Equal(taken > len(fates)-needed), "%v: %v", fates, err)
	Expect(said.ToFailures()).To(Equal(failed > len(fates)-needed), "%v: %v", fates, err)
	if taken > 0 {
		Expect(err).To(MatchError(ctxlock.ErrNotLocked), "%v", fates)
	} else {
		Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked), "%v", fates)
	}
	Expect(said.Permanent()).To(BeFalse(), "%v: waiting can mend it", fates)
	return nil
}

// expectTidy sees that, soon, nothing of an attempt at the name is left on the nodes that answer.
func (d *independents) expectTidy(name string, fates []fate) {
	GinkgoHelper()
	for i, f := range fates {
		if f.quick() {
			d.holds(name, map[bool]string{true: "stranger"}[f.outcome == ctxlock.NodeTaken], i)
		}
	}
}

// tryUnder makes one attempt at a lock on nodes of such fates, through links of its own to servers that many share.
func (d *independents) tryUnder(fates []fate) {
	GinkgoHelper()
	own := d.relinked(len(fates))
	option, name := own.option(), unique()
	option.TryNextAfter, option.KeyValidity = nodePatience, 5*time.Second
	l := own.redlockOnAll(option)
	defer own.mend(l)
	for i, f := range fates {
		if f.befall != nil {
			f.befall(own, i, name)
		}
	}
	defer func() {
		for i, f := range fates {
			if f.outcome == ctxlock.NodeTaken {
				interfere(own.servers[i], "DEL", key(i, name))
			}
		}
	}()
	call := begin(bg(), l.TryWithContext, name, nil)
	if held := own.expectVerdict(call, name, fates, addressesOf(option)); held != nil {
		for i, f := range fates {
			if f.outcome == ctxlock.NodeGranted {
				own.holds(name, ctxlock.FromContext(*held).Value(), i)
			}
		}
		Expect(held.release).To(takeLessThan(time.Second), "%v", fates) // a minority is not waited for
	}
	own.expectTidy(name, fates)
}

// mend ends all trouble on the links, and then lockers, which is quick.
func (d *independents) mend(lockers ...ctxlock.Locker) {
	GinkgoHelper()
	for _, p := range d.links {
		p.Refuse(false)
		p.Delay(0)
		p.Heal()
	}
	for _, l := range lockers {
		Expect(l.Close).To(takeLessThan(soon))
	}
}

func addressesOf(option ctxlock.RedlockOption) (all []string) {
	for _, node := range option.Nodes {
		all = append(all, node.InitAddress...)
	}
	return all
}

// aFewAtOnce is together for so many that they would be in each other's way.
func aFewAtOnce[T any](all []T, f func(T)) {
	for some := range slices.Chunk(all, 20) {
		together(some, f)
	}
}

// outage is a way for a server as a whole to be of no use, and how it is mended. Those are tried one after the other.
type outage struct {
	what       string
	fail, mend func(s *lab.Server)
}

var outages = []outage{
	{"killed", func(s *lab.Server) { s.Kill() }, func(s *lab.Server) {
		GinkgoHelper()
		Expect(s.Restart()).To(Succeed())
	}},
	{"out of memory",
		func(s *lab.Server) { interfere(s, "CONFIG", "SET", "maxmemory", "1") },
		func(s *lab.Server) { interfere(s, "CONFIG", "SET", "maxmemory", "0") }},
	{"asking for a password", func(s *lab.Server) {
		interfere(s, "CONFIG", "SET", "requirepass", "secret")
		interfere(s, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	}, func(s *lab.Server) { interfere(s, "CONFIG", "SET", "requirepass", "") }},
}

var _ = Describe("An attempt at nodes", Label("control"), func() {
	for _, f := range []fate{refusing, slow, stalled, foreign} {
		It("gets the lock if a majority is fine, for every subset of 3 and 5 that is "+f.what, func() {
			d := independent(5)
			aFewAtOnce(append(combinations(3, fine, f), combinations(5, fine, f)...), d.tryUnder)
			d.nothingLeft()
		})
	}

	It("gets the lock if two of three are fine, for every mix of those that are refusing, stalled and taken", func() {
		d := independent(3)
		aFewAtOnce(combinations(3, fine, refusing, stalled, foreign), d.tryUnder)
		d.nothingLeft()
	})

	for _, n := range []int{3, 5} {
		for _, o := range outages {
			It(fmt.Sprintf("gets the lock if a majority is fine, for every subset of %d that is %s", n, o.what), func() {
				d := independent(n)
				option := d.direct()
				option.TryNextAfter, option.KeyValidity = nodePatience, 5*time.Second
				l := d.redlockOnAll(option)
				fates := slices.Repeat([]fate{fine}, n)
				for step := 1; step < 1<<n; step++ { // a Gray code: from one subset to the next, one node changes
					i, name := bits.TrailingZeros(uint(step)), unique()
					if fates[i].outcome == ctxlock.NodeGranted {
						o.fail(d.servers[i])
						fates[i] = fate{what: o.what, outcome: ctxlock.NodeFailed}
					} else {
						o.mend(d.servers[i])
						fates[i] = fine
						for range 3 { // a connection that was begun before that may yet fail, and be what the next call gets
							_, release, _ := l.TryWithContext(bg(), unique())
							release()
						}
					}
					held := d.expectVerdictOfOutage(begin(bg(), l.TryWithContext, name, nil), fates)
					for i, f := range fates {
						if held != nil && f.outcome == ctxlock.NodeGranted {
							d.holds(name, ctxlock.FromContext(*held).Value(), i)
						}
					}
					if held != nil {
						Expect(held.release).To(takeLessThan(time.Second), "%v", fates)
					}
					for i, f := range fates {
						if f.outcome == ctxlock.NodeGranted || o.what == "out of memory" {
							d.holds(name, "", i)
						}
					}
				}
			})
		}
	}
})

// expectVerdictOfOutage is expectVerdict for nodes that all answer at once, one way or another.
func (d *independents) expectVerdictOfOutage(call *pending, fates []fate) (held *holding) {
	GinkgoHelper()
	needed := len(fates)/2 + 1
	granting, against := tally(fates)
	call.returns(nodePatience + soon)
	Expect(call.took).To(BeNumerically("<", nodePatience), "%v", fates)
	if granting >= needed {
		l := call.gets(soon)
		return &l
	}
	err := call.fails(soon)
	said := quorum(err)
	for i, node := range said.Nodes {
		Expect(node.Node).To(Equal(d.servers[i].Addr()))
		Expect(node.Outcome).To(BeElementOf(fates[i].outcome, ctxlock.NodeUnheard), "%v, node %d: %v", fates, i, err)
	}
	Expect(against).To(BeNumerically(">", len(fates)-needed))
	Expect(said.ToFailures()).To(BeTrue(), "%v: %v", fates, err)
	Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked), "%v", fates)
	return nil
}

// liars is honest servers, and as many that tell one lie.
type liars struct {
	lie    lab.Lie
	honest []*lab.Server
	lying  []*lab.Liar
}

func startLiars(lie lab.Lie, n int) *liars {
	GinkgoHelper()
	all := &liars{lie: lie, honest: make([]*lab.Server, n), lying: make([]*lab.Liar, n)}
	together(upTo(n), func(i int) {
		all.honest[i] = server()
		liar, err := lab.StartLiar(lie)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(liar.Close)
		all.lying[i] = liar
	})
	return all
}

// which is a subset of nodes that lie.
type which struct {
	nodes int
	lying uint
}

func (w which) String() string { return fmt.Sprintf("%0*b", w.nodes, w.lying) }

func (w which) minority() bool { return bits.OnesCount(w.lying) <= w.nodes/2 }

// everySubset is all of so many nodes.
func everySubset(n int) (all []which) {
	for lying := range uint(1) << n {
		all = append(all, which{n, lying})
	}
	return all
}

func (all *liars) option(w which) ctxlock.RedlockOption {
	var addresses []string
	for i := range w.nodes {
		if w.lying>>i&1 == 1 {
			addresses = append(addresses, all.lying[i].Addr())
		} else {
			addresses = append(addresses, all.honest[i].Addr())
		}
	}
	option := nodesAt(addresses...)
	option.TryNextAfter, option.KeyValidity = nodePatience, lossTime
	return option
}

// onHonest waits until a lock is on all nodes that do not lie, or lost. From then on nobody else can have it, whatever the others say; up
// to then a liar that grants it to two at once makes up two majorities, which no vote can prevent.
func (all *liars) onHonest(w which, held holding) {
	GinkgoHelper()
	lock := ctxlock.FromContext(held)
	for i, s := range all.honest[:w.nodes] {
		if w.lying>>i&1 == 0 {
			Eventually(func() bool {
				holder, err := s.Do("GET", key(i, lock.Name()))
				return err == nil && holder == lock.Value() || !lock.Valid()
			}).WithTimeout(soon).WithPolling(time.Millisecond).Should(BeTrue(), "%v, %v", all.lie, w)
		}
	}
}

// heldAmong sees that a lock is held by one at a time among nodes of which a minority lies.
func (all *liars) heldAmong(w which) {
	GinkgoHelper()
	name, check := unique(), new(checker)
	a, b := redlock(all.option(w)), redlock(all.option(w))
	first := begin(bg(), a.WithContext, name, check).gets(soon)
	all.onHonest(w, first)
	_, _, err := b.TryWithContext(bg(), name)
	Expect(err).To(MatchError(ctxlock.ErrNotLocked), "%v, %v", all.lie, w)
	waiter := begin(bg(), b.WithContext, name, check)
	Consistently(func() error { return context.Cause(first) }, 5*lossTime/4).ShouldNot(HaveOccurred(), "%v, %v", all.lie, w)
	Expect(waiter.done).NotTo(BeClosed(), "%v, %v", all.lie, w)
	Expect(first.release).To(takeLessThan(time.Second), "%v, %v", all.lie, w)
	second := waiter.gets(lossTime + soon)
	all.onHonest(w, second)
	_, release, err := a.TryWithContext(bg(), name)
	if second.Err() == nil { // else it had a majority with a liar that forgot
		Expect(err).To(MatchError(ctxlock.ErrNotLocked), "%v, %v", all.lie, w)
	}
	release()
	second.release()
	check.exclusive()
	for i, s := range all.honest[:w.nodes] {
		Eventually(func() (any, error) { return s.Do("GET", key(i, name)) }).WithTimeout(soon).Should(BeNil(), "%v, %v", all.lie, w)
	}
}

// boundedAmong sees that calls return in time although a majority lies. What they return is anybody's guess.
func (all *liars) boundedAmong(w which) {
	GinkgoHelper()
	name := unique()
	a, b := redlock(all.option(w)), redlock(all.option(w))
	for _, l := range []ctxlock.Locker{a, b, a} {
		call := begin(bg(), l.TryWithContext, name, nil)
		call.returns(nodePatience + soon)
		if call.err == nil {
			Expect(call.release).To(takeLessThan(2*time.Second+busy), "%v, %v", all.lie, w)
		}
	}
	Expect(a.Close).To(takeLessThan(2*soon), "%v, %v", all.lie, w)
	Expect(b.Close).To(takeLessThan(2*soon), "%v, %v", all.lie, w)
}

var _ = Describe("A node that lies", Label("control"), func() {
	for lie := lab.Grants; lie <= lab.Garbles; lie++ {
		It(fmt.Sprintf("has no say as long as it is in a minority, and holds up nothing otherwise: it %v", lie), func() {
			all := startLiars(lie, 5)
			aFewAtOnce(append(everySubset(3), everySubset(5)...), func(w which) {
				if w.minority() {
					all.heldAmong(w)
				} else {
					all.boundedAmong(w)
				}
			})
		})
	}
})

// trouble is what happens to a link.
type trouble struct {
	what string
	make func(p *lab.Proxy)
}

var troubles = []trouble{
	{"stalls", func(p *lab.Proxy) { p.Stall(lab.Both) }},
	{"is cut off", func(p *lab.Proxy) {
		p.Refuse(true)
		p.Cut()
	}},
	{"answers nothing", func(p *lab.Proxy) { p.Stall(lab.Down) }},
}

// troubled is a node of three with its trouble.
type troubled struct {
	trouble
	node int
}

func (t troubled) String() string { return fmt.Sprintf("node %d %s", t.node, t.what) }

// everyTrouble is all there is.
func everyTrouble() (all []troubled) {
	for _, trouble := range troubles {
		for i := range 3 {
			all = append(all, troubled{trouble, i})
		}
	}
	return all
}

// standsWithout holds a lock while a node is in trouble.
func standsWithout(d *independents, t troubled) {
	GinkgoHelper()
	own := d.relinked(3)
	option, name := own.option(), unique()
	option.ExtendInterval = validity / 4
	a := own.redlockOnAll(option)
	defer own.mend(a)
	held := take(bg(), a.WithContext, name)
	lock := ctxlock.FromContext(held)
	t.make(own.links[t.node])
	least, rises, last := validity, 0, lock.Until()
	for start := time.Now(); time.Since(start) < 3*validity; time.Sleep(5 * time.Millisecond) { // a pace
		least = min(least, time.Until(lock.Until()))
		if until := lock.Until(); until.After(last) {
			last = until
			rises++
		}
	}
	Expect(held.Err()).NotTo(HaveOccurred(), "%v", t)
	Expect(rises).To(BeNumerically(">=", 9), "of 12 extensions; %v", t)
	Expect(least).To(BeNumerically(">", validity/3), "what was left of trust at the least; %v", t)
	Expect(held.release).To(takeLessThan(time.Second), "%v", t)
}

// endsWithout holds a lock while two nodes of three are in trouble.
func endsWithout(d *independents, t troubled) {
	GinkgoHelper()
	own, name, check := d.relinked(3), unique(), new(checker)
	a, b := own.redlockOnAll(own.option()), d.redlockOnAll(d.direct())
	defer own.mend(a, b)
	first := take(bg(), a.WithContext, name)
	check.enter(first)
	waiter := begin(bg(), b.WithContext, name, check)
	t.make(own.links[t.node])
	t.make(own.links[(t.node+1)%3])
	start := time.Now()
	Expect(end(first, validity+busy)).To(beLost(name, ctxlock.Expired), "%v", t)
	Expect(time.Since(start)).To(BeNumerically("<", validity+busy/2), "%v", t)
	second := waiter.gets(validity + soon)
	check.exclusive()
	Expect(first.release).To(takeLessThan(2*time.Second+busy), "%v", t)
	Expect(second.Err()).NotTo(HaveOccurred(), "%v", t)
	second.release()
}

// handsOverWithout has a waiter that knows that the lock is extended, and then a node gets into trouble.
func handsOverWithout(d *independents, t troubled) {
	GinkgoHelper()
	own, name, check := d.relinked(3), unique(), new(checker)
	option := own.option()
	option.KeyValidity = 10 * time.Second // what the waiter would wait for without word
	option.ExtendInterval = validity / 4
	a, b := own.redlockOnAll(option), own.redlockOnAll(option)
	defer own.mend(a, b)
	first := take(bg(), a.WithContext, name)
	check.enter(first)
	waiter := begin(bg(), b.WithContext, name, check)
	Consistently(waiter.done, validity).ShouldNot(BeClosed())
	t.make(own.links[t.node])
	Consistently(waiter.done, validity).ShouldNot(BeClosed())
	first.release()
	second := waiter.gets(soon)
	check.exclusive()
	second.release()
}

var _ = Describe("A lock that is held on nodes", Label("control"), func() {
	It("stands, is extended and released at its usual pace while one of three is in trouble", func() {
		d := independent(3)
		together(everyTrouble(), func(t troubled) { standsWithout(d, t) })
		d.nothingLeft()
	})

	It("ends by its own clock when two of three are in trouble", func() {
		d := independent(3)
		together(everyTrouble(), func(t troubled) { endsWithout(d, t) })
		d.nothingLeft()
	})

	It("passes to a waiter at once although one of three is in trouble, whichever it is", func() {
		d := independent(3)
		together(everyTrouble(), func(t troubled) { handsOverWithout(d, t) })
		d.nothingLeft()
	})

	It("stands while one server after the other is killed and comes back empty, and has its key set again", func() {
		together([]bool{false, true}, func(polling bool) {
			d, name := independent(3), unique()
			option := fleetShape{polling: polling}.of(d.direct())
			option.ExtendInterval = validity / 4
			a, b := d.redlockOnAll(option), d.redlockOnAll(option)
			check := new(checker)
			first := take(bg(), a.WithContext, name)
			check.enter(first)
			waiter := begin(bg(), b.WithContext, name, check)
			for i, s := range d.servers {
				d.holds(name, ctxlock.FromContext(first).Value(), 0, 1, 2)
				s.Kill()
				Consistently(first.Done(), 5*validity/4).ShouldNot(BeClosed(), "without node %d", i)
				Expect(waiter.done).NotTo(BeClosed())
				Expect(s.Restart()).To(Succeed())
				Eventually(func() string { return d.value(i, name) }).WithTimeout(option.ExtendInterval+2*busy).WithPolling(2*time.Millisecond).
					Should(Equal(ctxlock.FromContext(first).Value()), "within an interval, node %d", i)
			}
			d.servers[0].Kill()
			first.release()
			second := waiter.gets(validity + soon)
			check.exclusive()
			second.release()
		})
	})

	It("is repaired when a minority is emptied, and lost as deleted when a majority is", func() {
		for _, shape := range []fleetShape{{nodes: 3}, {nodes: 3, polling: true}, {nodes: 3, noLoop: true}} {
			d, name := independent(3), unique()
			a := d.redlockOnAll(shape.of(d.option()))
			held := take(bg(), a.WithContext, name)
			value := ctxlock.FromContext(held).Value()
			for i, s := range d.servers {
				d.holds(name, value, 0, 1, 2)
				interfere(s, "FLUSHALL")
				Eventually(func() string { return d.value(i, name) }).WithTimeout(validity/2 + busy).Should(Equal(value))
			}
			Expect(held.Err()).NotTo(HaveOccurred(), "%v", shape)
			d.holds(name, value, 0, 1, 2)
			d.links[0].Stall(lab.Both) // so that it hears of both at once
			d.links[1].Stall(lab.Both)
			interfere(d.servers[0], "FLUSHALL")
			interfere(d.servers[1], "FLUSHALL")
			d.links[0].Heal()
			d.links[1].Heal()
			Expect(end(held, validity/2+busy)).To(beLost(name, ctxlock.Deleted), "%v", shape)
			held.release()
			d.nothingLeft()
		}
	})

	It("is had by a waiter who saw a majority fail and come back", func() {
		d, name := independent(3), unique()
		a, b := d.redlockOnAll(d.direct()), d.redlockOnAll(d.direct())
		first := take(bg(), a.WithContext, name)
		waiter := begin(bg(), b.WithContext, name, nil)
		d.servers[0].Kill()
		d.servers[1].Kill()
		Expect(end(first, validity+busy)).To(beLost(name, ctxlock.Expired))
		Consistently(waiter.done, validity).ShouldNot(BeClosed())
		Expect(d.servers[1].Restart()).To(Succeed())
		waiter.gets(2 * soon).release()
		first.release()
		Expect(d.servers[0].Restart()).To(Succeed())
		d.nothingLeft()
	})
})

var _ = Describe("NewRedlock", Label("control"), func() {
	It("takes in a node that comes up later, for locks that are held already, too", func() {
		d, name := independent(3), unique()
		d.links[2].Refuse(true)
		start := time.Now()
		a := redlock(d.option())
		Expect(time.Since(start)).To(BeNumerically("<", time.Second))
		held := take(bg(), a.WithContext, name)
		d.holds(name, ctxlock.FromContext(held).Value(), 0, 1)
		Consistently(held.Done(), 3*validity/2).ShouldNot(BeClosed())
		d.links[2].Refuse(false)
		d.holds(name, ctxlock.FromContext(held).Value(), 2) // 5s at the most between attempts, and longer than so far at the most
		d.links[0].Stall(lab.Both)
		Consistently(held.Done(), 5*validity/4).ShouldNot(BeClosed(), "it counts")
		d.links[0].Heal()
		held.release()
		d.nothingLeft()
	})

	for _, t := range troubles[:2] {
		It("does not wait for a minority that "+t.what+", and its Close does not either", func() {
			d := independent(5)
			t.make(d.links[1])
			t.make(d.links[4])
			start := time.Now()
			a, err := ctxlock.NewRedlock(d.option())
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(a.Close)
			Expect(time.Since(start)).To(BeNumerically("<", 250*time.Millisecond+2*busy))
			held := take(bg(), a.WithContext, unique())
			Expect(a.Close).To(takeLessThan(3*time.Second + busy)) // while it still connects
			Expect(context.Cause(held)).To(MatchError(ctxlock.ErrLockerClosed))
			d.mend()
			for _, p := range d.links {
				Eventually(p.Open).WithTimeout(soon).Should(BeZero(), "connections")
			}
			d.nothingLeft()
		})
	}

	It("fails when a majority cannot be reached, and says of each why", func() {
		d := independent(3)
		for _, t := range troubles[:2] {
			own := d.relinked(3)
			t.make(own.links[0])
			t.make(own.links[2])
			option := own.option()
			for i := range option.Nodes {
				option.Nodes[i].Dialer.Timeout = time.Second
			}
			start := time.Now()
			_, err := ctxlock.NewRedlock(option)
			Expect(time.Since(start)).To(BeNumerically("<", time.Second+2*busy), t.what)
			said := quorum(err)
			Expect(said.Name).To(BeEmpty())
			Expect(said.Needed).To(Equal(2))
			Expect(said.ToFailures()).To(BeTrue())
			for i, answered := range []bool{false, true, false} {
				Expect(said.Nodes[i].Node).To(Equal(own.links[i].Addr()))
				if answered {
					Expect(said.Nodes[i].Outcome).To(Equal(ctxlock.NodeAnswered), "%s: %v", t.what, err)
				} else {
					Expect(said.Nodes[i].Outcome).To(Or(Equal(ctxlock.NodeFailed), Equal(ctxlock.NodeLate)), "%s: %v", t.what, err)
					Expect(said.Nodes[i].Err).To(HaveOccurred())
					Expect(strings.Count(err.Error(), own.links[i].Addr())).To(BeNumerically(">=", 1), err.Error())
				}
			}
			Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked))
			Eventually(own.links[1].Open).WithTimeout(soon).Should(BeZero(), "connections")
		}
	})
})
