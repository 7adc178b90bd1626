package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// independents is servers that do not know of each other, each behind a link that specs can break.
type independents struct {
	servers []*lab.Server
	links   []*lab.Proxy
}

// independent starts some. The clock skew of each, if there is one, is set by config.
func independent(n int, config ...lab.Config) *independents {
	GinkgoHelper()
	d := &independents{servers: make([]*lab.Server, n), links: make([]*lab.Proxy, n)}
	together(upTo(n), func(i int) {
		if i < len(config) {
			d.servers[i] = server(config[i])
		} else {
			d.servers[i] = server()
		}
		d.links[i] = proxy(d.servers[i])
	})
	return d
}

// relinked is the same servers, or the first n of them, behind links of its own.
func (d *independents) relinked(n int) *independents {
	GinkgoHelper()
	own := &independents{servers: d.servers[:n], links: make([]*lab.Proxy, n)}
	for i := range n {
		own.links[i] = proxy(d.servers[i])
	}
	return own
}

// option leads to the servers by way of the links.
func (d *independents) option() ctxlock.RedlockOption {
	var addresses []string
	for _, p := range d.links {
		addresses = append(addresses, p.Addr())
	}
	return nodesAt(addresses...)
}

// direct leads to the servers without the links.
func (d *independents) direct() ctxlock.RedlockOption {
	var addresses []string
	for _, s := range d.servers {
		addresses = append(addresses, s.Addr())
	}
	return nodesAt(addresses...)
}

func nodesAt(addresses ...string) ctxlock.RedlockOption {
	option := ctxlock.RedlockOption{LockerOption: ctxlock.LockerOption{KeyValidity: validity}}
	for _, address := range addresses {
		option.Nodes = append(option.Nodes, valkey.ClientOption{InitAddress: []string{address}})
	}
	return option
}

// redlock makes a locker on nodes that is closed when the spec ends.
func redlock(option ctxlock.RedlockOption) ctxlock.Locker {
	GinkgoHelper()
	l, err := ctxlock.NewRedlock(option)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(l.Close)
	return l
}

// redlockOnAll is redlock that has connected to every node.
func (d *independents) redlockOnAll(option ctxlock.RedlockOption) ctxlock.Locker {
	GinkgoHelper()
	l := redlock(option)
	name := unique()
	first := take(bg(), l.WithContext, name)
	d.holds(name, ctxlock.FromContext(first).Value(), upTo(len(option.Nodes))...)
	first.release()
	return l
}

// value is what key i of a lock has on node i, empty if it is not there.
func (d *independents) value(i int, name string) string {
	GinkgoHelper()
	reply, err := d.servers[i].Do("GET", key(i, name))
	Expect(err).NotTo(HaveOccurred())
	value, _ := reply.(string)
	return value
}

// holds waits until the lock's keys have a value on some nodes, or, if it is empty, are not there.
func (d *independents) holds(name, value string, nodes ...int) {
	GinkgoHelper()
	for _, i := range nodes {
		Eventually(func() string { return d.value(i, name) }).WithTimeout(2*soon).WithPolling(2*time.Millisecond).Should(Equal(value), "node %d", i)
	}
}

// nothingLeft is that of all servers.
func (d *independents) nothingLeft() {
	GinkgoHelper()
	together(d.servers, func(s *lab.Server) { nothingLeft(s, 2*soon) })
}

// quorum finds what the nodes said in an error.
func quorum(err error) *ctxlock.QuorumError {
	GinkgoHelper()
	var e *ctxlock.QuorumError
	Expect(errors.As(err, &e)).To(BeTrue(), "%T: %v", err, err)
	return e
}

// fleetShape is nodes, and how a Locker hears of them.
type fleetShape struct {
	nodes           int
	polling, noLoop bool
}

func (f fleetShape) String() string {
	return fmt.Sprintf("%d nodes, polling %t, NOLOOP %t", f.nodes, f.polling, f.noLoop)
}

func (f fleetShape) of(option ctxlock.RedlockOption) ctxlock.RedlockOption {
	option.NoLoopTracking = f.noLoop
	for i := range option.Nodes {
		option.Nodes[i].DisableCache = f.polling
	}
	return option
}

var fleetShapes = []fleetShape{{nodes: 1}, {nodes: 3}, {nodes: 5}, {nodes: 1, polling: true}, {nodes: 3, polling: true}, {nodes: 3, noLoop: true}, {nodes: 5, polling: true}}

var _ = Describe("Redlock", Label("control"), func() {
	for _, shape := range fleetShapes {
		It("keeps each key on a node of its own, holds, hands over and leaves nothing: "+shape.String(), func() {
			d, name, check := independent(shape.nodes), unique(), new(checker)
			option := shape.of(d.direct())
			option.KeyValidity = 10 * time.Second // word of a release comes, or waiting would take this long
			a, b := d.redlockOnAll(option), d.redlockOnAll(option)
			Expect(a.Client()).To(BeNil())
			first := take(bg(), a.TryWithContext, name)
			check.enter(first)
			d.holds(name, ctxlock.FromContext(first).Value(), upTo(shape.nodes)...)

			_, _, err := b.TryWithContext(bg(), name)
			Expect(err).To(MatchError(ctxlock.ErrNotLocked))
			Expect(quorum(err).ToOthers()).To(BeTrue(), err.Error())
			waiter := begin(bg(), b.WithContext, name, check)
			Eventually(func() int {
				status, err := a.Look(bg(), name)
				Expect(err).NotTo(HaveOccurred())
				return status.Waiting
			}).WithTimeout(soon).Should(Equal(1))
			for i, s := range d.servers {
				beside := slices.DeleteFunc(keysOn(s), func(on string) bool {
					return on == key(i, name) || i == 0 && (strings.HasPrefix(strings.ToLower(on), "valkeylock:w:") || strings.HasPrefix(strings.ToLower(on), "valkeylock:q:"))
				})
				Expect(beside).To(BeEmpty(), "node %d", i)
			}
			first.release()
			second := waiter.gets(soon)
			check.exclusive()
			third := begin(bg(), a.WithContext, name, check)
			Consistently(third.done, validity/4).ShouldNot(BeClosed())
			b.Close() // releases what is held
			Expect(context.Cause(second)).To(MatchError(ctxlock.ErrLockerClosed))
			third.gets(soon).release()
			check.exclusive()
			d.nothingLeft()
			_, _, err = b.TryWithContext(bg(), name)
			Expect(err).To(MatchError(ctxlock.ErrLockerClosed))
		})
	}

	It("excludes many who want one lock, from several lockers", func() {
		d, name, check := independent(3), unique(), new(checker)
		lockers := make([]ctxlock.Locker, 4)
		together(upTo(4), func(i int) { lockers[i] = redlock(fleetShape{polling: i == 3, noLoop: i == 2}.of(d.direct())) })
		together(upTo(12), func(i int) {
			for n := range 15 {
				l := lockers[i%4]
				if n%5 == 4 {
					if ctx, release, err := l.TryWithContext(bg(), name); err == nil {
						check.enter(ctx)
						release()
					}
					continue
				}
				held := take(bg(), l.WithContext, name)
				check.enter(held)
				held.release()
			}
		})
		entered, _ := check.result()
		Expect(entered).To(BeNumerically(">=", 12*12))
		check.exclusive()
		d.nothingLeft()
	})

	It("takes a lock by force, and the holder hears of it", func() {
		d, name := independent(3), unique()
		a, b := d.redlockOnAll(d.direct()), d.redlockOnAll(d.direct())
		first := take(bg(), a.WithContext, name)
		second := take(bg(), b.ForceWithContext, name)
		Expect(end(first, soon)).To(beLost(name, ctxlock.Taken))
		first.release()
		Consistently(second.Done(), validity/2).ShouldNot(BeClosed())
		second.release()
		d.nothingLeft()
	})

	It("ends waiting calls and contexts when it is closed", func() {
		d, name := independent(3), unique()
		a, b := redlock(d.direct()), redlock(d.direct())
		first := take(bg(), a.WithContext, name)
		waiter := begin(bg(), b.WithContext, name, nil)
		Consistently(waiter.done, validity/4).ShouldNot(BeClosed())
		Expect(b.Close).To(takeLessThan(soon))
		Expect(waiter.fails(soon)).To(MatchError(ctxlock.ErrLockerClosed))
		Expect(a.Close).To(takeLessThan(soon))
		Expect(end(first, busy)).To(MatchError(ctxlock.ErrLockerClosed))
		d.nothingLeft()
	})
})

// nowhere is nodes where nobody is, lest anything connect.
func nowhere(n int) ctxlock.RedlockOption {
	var addresses []string
	for i := range n {
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", i+1))
	}
	return nodesAt(addresses...)
}

// refusesAtOnce sees that an option is refused before any node is asked.
func refusesAtOnce(what string, change func(o *ctxlock.RedlockOption)) {
	GinkgoHelper()
	option := nowhere(3)
	change(&option)
	start := time.Now()
	l, err := ctxlock.NewRedlock(option)
	Expect(l).To(BeNil(), what)
	Expect(err).To(MatchError(ContainSubstring(what)), what)
	var asked *ctxlock.QuorumError
	Expect(errors.As(err, &asked)).To(BeFalse(), "%s: no node was asked", what)
	Expect(time.Since(start)).To(BeNumerically("<", busy), what)
}

var _ = Describe("RedlockOption", Label("control"), func() {
	It("that contradicts itself is an error at once", func() {
		for what, change := range map[string]func(o *ctxlock.RedlockOption){
			"Nodes is empty":                                          func(o *ctxlock.RedlockOption) { o.Nodes = nil },
			"Nodes are 2, not an odd number":                          func(o *ctxlock.RedlockOption) { o.Nodes = o.Nodes[:2] },
			"Nodes are 4, not an odd number":                          func(o *ctxlock.RedlockOption) { *o = nowhere(4) },
			"are the same: 127.0.0.1:1":                               func(o *ctxlock.RedlockOption) { o.Nodes[2] = o.Nodes[0] },
			"Nodes[1] and [2] are the same":                           func(o *ctxlock.RedlockOption) { o.Nodes[2].InitAddress = []string{"127.0.0.1:9", "127.0.0.1:2"} },
			"Nodes[1] has no InitAddress":                             func(o *ctxlock.RedlockOption) { o.Nodes[1].InitAddress = nil },
			"ReplicaOnly":                                             func(o *ctxlock.RedlockOption) { o.Nodes[1].ReplicaOnly = true },
			"KeyMajority is 3":                                        func(o *ctxlock.RedlockOption) { o.KeyMajority = 3 },
			"KeyMajority is 1":                                        func(o *ctxlock.RedlockOption) { o.KeyMajority = 1 },
			"KeyMajority is -2":                                       func(o *ctxlock.RedlockOption) { o.KeyMajority = -2 },
			"both a ClientOption and Nodes":                           func(o *ctxlock.RedlockOption) { o.ClientOption.InitAddress = []string{"127.0.0.1:9"} },
			"DriftFactor is -0.1":                                     func(o *ctxlock.RedlockOption) { o.DriftFactor = -0.1 },
			"DriftFactor is 0.51":                                     func(o *ctxlock.RedlockOption) { o.DriftFactor = 0.51 },
			"DriftFactor is +Inf":                                     func(o *ctxlock.RedlockOption) { o.DriftFactor = math.Inf(1) },
			"TimeoutFactor is -0.1":                                   func(o *ctxlock.RedlockOption) { o.TimeoutFactor = -0.1 },
			"TimeoutFactor is 1,":                                     func(o *ctxlock.RedlockOption) { o.TimeoutFactor = 1 },
			"both TimeoutFactor and TryNextAfter":                     func(o *ctxlock.RedlockOption) { o.TimeoutFactor, o.TryNextAfter = 0.1, time.Second },
			"KeyValidity is 20ms":                                     func(o *ctxlock.RedlockOption) { o.KeyValidity = 20 * time.Millisecond },
			"DriftFactor is 5, not from 0 to 0.5: did you mean 0.05?": func(o *ctxlock.RedlockOption) { o.DriftFactor = 5 },
			"TimeoutFactor is 20, not from 0 to below 1: did you mean 0.2?": func(o *ctxlock.RedlockOption) { o.TimeoutFactor = 20 },
			"TimeoutFactor is 0.0005, which of KeyValidity 1s makes 500µs":  func(o *ctxlock.RedlockOption) { o.TimeoutFactor = 0.0005 },
			"RedlockOption.Nodes[1].Dialer.Timeout is 5ns: did you mean 5*time.Second?": func(o *ctxlock.RedlockOption) {
				o.Nodes[1].Dialer.Timeout = 5
			},
			"TryNextAfter is negative":       func(o *ctxlock.RedlockOption) { o.TryNextAfter = -1 },
			"ExtendInterval 1s is not below": func(o *ctxlock.RedlockOption) { o.ExtendInterval = time.Second },
		} {
			refusesAtOnce(what, change)
		}
	})

	It("has a factor that is no number is an error at once", func() {
		refusesAtOnce("DriftFactor is NaN", func(o *ctxlock.RedlockOption) { o.DriftFactor = math.NaN() })
		refusesAtOnce("TimeoutFactor is NaN", func(o *ctxlock.RedlockOption) { o.TimeoutFactor = math.NaN() })
	})

	It("takes KeyMajority if it says the same, and leaves the caller's nodes alone", func() {
		d := independent(3)
		option := d.direct()
		option.KeyMajority = 2
		take(bg(), redlock(option).WithContext, unique()).release()
		Expect(option.Nodes).To(Equal(d.direct().Nodes))
	})

	It("has DriftFactor taken off what may be believed in", func() {
		d := independent(3)
		together([]float64{0, 0.01, 0.05, 0.2, 0.5}, func(factor float64) {
			option := d.direct()
			option.KeyValidity, option.DriftFactor = 4*time.Second, factor
			l := d.redlockOnAll(option)
			if factor == 0 {
				factor = 0.05
			}
			for _, each := range []time.Duration{option.KeyValidity, 2 * time.Second} {
				window := each - time.Duration(float64(each)*factor) - 5*time.Millisecond
				before := time.Now()
				_, lock := handle(l, unique(), ctxlock.AcquireOption{NoExtend: true, Validity: each})
				d.holds(lock.Name(), lock.Value(), 0, 1, 2)
				Expect(lock.Until()).To(BeTemporally("<=", time.Now().Add(window)), "factor %v", factor)
				Expect(lock.Until()).To(BeTemporally(">=", before.Add(window-20*time.Millisecond)), "factor %v", factor)
				before = time.Now()
				Expect(lock.Extend(bg(), 3*time.Second)).To(Succeed())
				window = 3*time.Second - time.Duration(float64(3*time.Second)*factor) - 5*time.Millisecond
				Expect(lock.Until()).To(BeTemporally("<=", time.Now().Add(window)), "factor %v", factor)
				Expect(lock.Until()).To(BeTemporally(">=", before.Add(window-20*time.Millisecond)), "factor %v", factor)
				Expect(lock.Release(bg())).To(Succeed())
			}
		})
		d.nothingLeft()
	})

	It("is kept to by Until when a lock is extended right after it was taken, while a node's answer to that may still come", func() {
		d := independent(3)
		option := d.direct()
		option.KeyValidity = 20 * time.Second
		l := d.redlockOnAll(option)
		together(upTo(8), func(int) {
			for range 50 {
				_, lock := handle(l, unique(), ctxlock.AcquireOption{NoExtend: true})
				before := time.Now()
				Expect(lock.Extend(bg(), 30*time.Second)).To(Succeed())
				Expect(lock.Until()).To(BeTemporally(">", before.Add(25*time.Second)), "a majority has confirmed that it has 30s")
				Expect(lock.Release(bg())).To(Succeed())
			}
		})
		d.nothingLeft()
	})

	It("has a lock with a great DriftFactor extended in time", func() {
		d := independent(3)
		option := d.direct()
		option.DriftFactor = 0.5
		held := take(bg(), redlock(option).WithContext, unique())
		Consistently(held.Done(), 2*validity).ShouldNot(BeClosed())
		held.release()
	})

	It("has TimeoutFactor bound an attempt", func() {
		d := independent(3)
		together([]float64{0.1, 0.2, 0.45}, func(factor float64) {
			own := d.relinked(3)
			option := own.option()
			option.KeyValidity, option.TimeoutFactor = 2*time.Second, factor
			l := d.redlockOnAll(option)
			defer own.mend(l)
			own.links[0].Stall(lab.Both)
			own.links[2].Stall(lab.Both)
			call := begin(bg(), l.TryWithContext, unique(), nil)
			err := call.fails(soon)
			quorum(err)
			Expect(call.took).To(BeNumerically(">=", time.Duration(factor*0.9*float64(option.KeyValidity))))
			Expect(call.took).To(BeNumerically("<", time.Duration(factor*float64(option.KeyValidity))+busy))
		})
		d.nothingLeft()
	})
})

// restarted is a way for a node to lose its data.
type restarted struct {
	what string
	lose func(s *lab.Server)
}

var restarts = []restarted{
	{"is restarted", func(s *lab.Server) {
		GinkgoHelper()
		Expect(s.Restart()).To(Succeed())
	}},
	{"is emptied", func(s *lab.Server) {
		GinkgoHelper()
		Expect(s.Do("FLUSHALL")).To(Equal("OK"))
	}},
}

// split is a holder that has nodes 0 and 1 of three and will not notice what becomes of node 1.
func split(d *independents, option ctxlock.RedlockOption, name string) (first holding, own *independents) {
	GinkgoHelper()
	own = d.relinked(3)
	option.Nodes = own.option().Nodes
	a := d.redlockOnAll(option)
	own.links[2].Refuse(true)
	own.links[2].Cut()
	first = take(bg(), a.WithContext, name)
	d.holds(name, ctxlock.FromContext(first).Value(), 0, 1)
	Expect(d.value(2, name)).To(BeEmpty())
	Eventually(func() time.Duration { return time.Until(ctxlock.FromContext(first).Until()) }).WithTimeout(soon).WithPolling(time.Millisecond).
		Should(BeNumerically(">", option.KeyValidity*3/4), "it was extended just now")
	own.links[1].Stall(lab.Both)
	return first, own
}

// upFor waits until servers have been up for that long, so that nobody takes them for restarted.
func (d *independents) upFor(uptime time.Duration) {
	GinkgoHelper()
	for _, s := range d.servers {
		Eventually(func() time.Duration {
			info, err := s.Info("server")
			Expect(err).NotTo(HaveOccurred())
			seconds, err := strconv.Atoi(info["uptime_in_seconds"])
			Expect(err).NotTo(HaveOccurred())
			return time.Duration(seconds) * time.Second
		}).WithTimeout(uptime + soon).Should(BeNumerically(">", uptime)) // in whole seconds, one of which may be too many
	}
}

// guarded is one case of a node that lost its data under DelayedRestart.
type guarded struct {
	way   restarted
	fresh bool // the other locker connects after it
	setPX bool
}

func (g guarded) String() string {
	return fmt.Sprintf("%s, fresh %t, SET PX %t", g.way.what, g.fresh, g.setPX)
}

// guardedCases is all of them. A locker that connects after a server was emptied is not told.
func guardedCases() (all []guarded) {
	for _, setPX := range []bool{false, true} {
		for _, way := range restarts {
			all = append(all, guarded{way, false, setPX})
		}
		all = append(all, guarded{restarts[0], true, setPX})
	}
	return all
}

// lossTime is the validity of specs in which much has to happen while a lock is believed in.
const lossTime = 2 * validity

var _ = Describe("A node of Redlock that loses its data", Label("control"), func() {
	It("gives the lock to a second holder, until the first one notices, when DelayedRestart is off", func() {
		together(restarts, func(way restarted) {
			d, name := independent(3), unique()
			option := d.direct()
			option.KeyValidity = lossTime
			b := d.redlockOnAll(option)
			first, own := split(d, option, name)
			defer own.mend()
			way.lose(d.servers[1])
			var second holding
			Eventually(func() (err error) { // the connection may take a moment
				second.Context, second.release, err = b.TryWithContext(bg(), name)
				return err
			}).WithTimeout(lossTime / 2).WithPolling(time.Millisecond).Should(Succeed())
			Expect(first.Err()).NotTo(HaveOccurred(), "that is Redlock's known hole: %s", way.what)
			end(first, lossTime)
			Expect(second.Err()).NotTo(HaveOccurred())
			second.release()
			own.mend()
			first.release()
		})
	})

	It("is not counted on for a validity under DelayedRestart, and then again", func() {
		together(guardedCases(), func(g guarded) {
			d, name, check := independent(3), unique(), new(checker)
			d.upFor(lossTime)
			option := d.direct()
			option.KeyValidity, option.DelayedRestart, option.FallbackSETPX = lossTime, true, g.setPX
			b := d.redlockOnAll(option)
			first, own := split(d, option, name)
			defer own.mend()
			check.enter(first)
			lost := time.Now()
			g.way.lose(d.servers[1])
			if g.fresh {
				b = redlock(option)
			}
			err := begin(bg(), b.TryWithContext, name, nil).fails(soon)
			Expect(first.Err()).NotTo(HaveOccurred(), "%v", g)
			Expect(err).To(MatchError(ctxlock.ErrNotLocked), "%v", g)
			said := quorum(err)
			Expect(said.Nodes[0].Outcome).To(Equal(ctxlock.NodeTaken), "%v: %v", g, err)
			Expect(said.Nodes[1].Outcome).To(Equal(ctxlock.NodeFailed), "%v: %v", g, err)
			Expect(said.Nodes[1].Err).To(MatchError(ContainSubstring("has lost its data: not counted on for another")), "%v", g)
			waiter := begin(bg(), b.WithContext, name, check)
			Expect(end(first, lossTime+busy)).To(beLost(name, ctxlock.Expired), "%v", g)
			second := waiter.gets(2*lossTime + soon)
			check.exclusive()
			d.holds(name, ctxlock.FromContext(second).Value(), 1) // it is counted on again, at the latest by an extension
			second.release()
			own.mend()
			first.release()

			again := unique()
			interfere(d.servers[0], "SET", key(0, again), "stranger", "PX", "30000")
			take(bg(), b.WithContext, again).release()
			Expect(time.Since(lost)).To(BeNumerically(">=", lossTime*9/10), "%v: it was needed", g)
		})
	})

	It("is not counted on by a fresh locker before a validity has passed since the restart, although servers count their uptime in whole seconds", func() {
		together([]time.Duration{500, 940, 950, 960, 970, 980}, func(millis time.Duration) {
			d, name := independent(3), unique()
			d.upFor(validity)
			option := d.direct()
			option.KeyValidity, option.DelayedRestart = validity, true
			interfere(d.servers[0], "SET", key(0, name), "stranger", "PX", "30000")
			now := time.Now()
			time.Sleep(now.Truncate(time.Second).Add(time.Second + millis*time.Millisecond).Sub(now)) // the servers' clock is this one
			restarted := time.Now()
			Expect(d.servers[1].Restart()).To(Succeed())
			l := redlock(option)
			var release context.CancelFunc
			Eventually(func() (err error) {
				_, release, err = l.TryWithContext(bg(), name)
				return err
			}).WithTimeout(2*validity + soon).WithPolling(5 * time.Millisecond).Should(Succeed())
			Expect(time.Since(restarted)).To(BeNumerically(">=", validity), "restarted %d ms into a second", millis)
			release()
		})
	})

	for _, setPX := range []bool{false, true} {
		It(fmt.Sprintf("is not counted on for the longest validity that the Locker has used (SET PX %t)", setPX), func() {
			d, name := independent(3), unique()
			d.upFor(validity)
			option := d.direct()
			option.DelayedRestart, option.FallbackSETPX = true, setPX
			b := d.redlockOnAll(option)
			_, long := handle(b, unique(), ctxlock.AcquireOption{Validity: 20 * time.Second})
			d.holds(long.Name(), long.Value(), 0, 1, 2)
			Expect(d.servers[1].Do("FLUSHALL")).To(Equal("OK"))
			interfere(d.servers[0], "SET", key(0, name), "stranger", "PX", "5000")
			err := begin(bg(), b.TryWithContext, name, nil).fails(soon)
			Expect(err).To(MatchError(MatchRegexp(`not counted on for another (1[5-9]\.[0-9]*|20)s`)))
			Expect(long.Release(bg())).To(Succeed())
		})
	}

	It("has a key set again by its holder, who is not hindered", func() {
		together(restarts, func(way restarted) {
			d, name := independent(3), unique()
			d.upFor(validity)
			option := d.direct()
			option.DelayedRestart = true
			option.ExtendInterval = validity / 4
			a := d.redlockOnAll(option)
			first := take(bg(), a.WithContext, name)
			way.lose(d.servers[1])
			Eventually(func() string { return d.value(1, name) }).WithTimeout(validity).Should(Equal(ctxlock.FromContext(first).Value()), way.what)
			Consistently(first.Done(), validity).ShouldNot(BeClosed())
			first.release()
			d.nothingLeft()
		})
	})

	It("is told from one that only lost its connections", func() {
		d := independent(3)
		d.upFor(validity)
		option := d.option()
		option.DelayedRestart = true
		a := d.redlockOnAll(option)
		for n := range 12 {
			name := unique()
			for _, i := range []int{n % 3, (n + 1) % 3} {
				d.links[i].Cut()
			}
			held := take(bg(), a.WithContext, name)
			d.holds(name, ctxlock.FromContext(held).Value(), n%3)
			held.release()
		}
	})

	It("is noticed although connections to it have failed before, in whichever way", func() {
		for what, fail := range map[string]func(p *lab.Proxy){
			"cut": func(p *lab.Proxy) { p.Cut() },
			"refused": func(p *lab.Proxy) {
				p.Refuse(true)
				p.Cut()
			},
		} {
			d, name := independent(3), unique()
			d.upFor(validity)
			option := d.option()
			option.DelayedRestart = true
			a := d.redlockOnAll(option)
			for range 5 {
				fail(d.links[1])
				take(bg(), a.WithContext, unique()).release()
				d.links[1].Refuse(false)
			}
			again := take(bg(), a.WithContext, unique())
			d.holds(ctxlock.FromContext(again).Name(), ctxlock.FromContext(again).Value(), 1)
			again.release()
			interfere(d.servers[0], "SET", key(0, name), "stranger", "PX", "5000")
			Expect(d.servers[1].Do("FLUSHALL")).To(Equal("OK"))
			err := begin(bg(), a.TryWithContext, name, nil).fails(soon)
			Expect(err).To(MatchError(ContainSubstring("has lost its data")), what)
		}
	})

	It("cannot be known without permission for INFO, and the error says that", func() {
		d := independent(3)
		option := d.direct()
		option.DelayedRestart = true
		for i, s := range d.servers {
			interfere(s, "ACL", "SETUSER", "limited", "on", "nopass", "~*", "&*", "+@all", "-info")
			option.Nodes[i].Username, option.Nodes[i].Password = "limited", "any"
		}
		a := redlock(option)
		for _, how := range []taking{a.TryWithContext, a.WithContext} { // waiting cannot mend it
			err := begin(bg(), how, unique(), nil).fails(soon)
			Expect(err).To(MatchError(And(ContainSubstring("NOPERM"), ContainSubstring("info"))))
			Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked))
			Expect(quorum(err).ToFailures()).To(BeTrue())
		}
		d.nothingLeft()
	})
})

var _ = Describe("A fencing token on nodes", Label("control"), func() {
	It("rises whichever majority each holding is on, whatever one node's clock says", func() {
		together([]time.Duration{0, time.Hour, -time.Hour}, func(skew time.Duration) {
			d, name := independent(3, lab.Config{}, lab.Config{Clock: skew != 0, ClockSkew: skew}), unique()
			option := d.option()
			option.KeyValidity, option.TryNextAfter = 5*time.Second, 300*time.Millisecond
			lockers := []ctxlock.Locker{d.redlockOnAll(option), d.redlockOnAll(option)}
			var last int64
			for n := range 70 {
				if n%20 == 19 { // one that has seen no token yet
					lockers[n/20%2].Close()
					lockers[n/20%2] = redlock(option)
				}
				p := d.links[n%3]
				if n%2 == 0 {
					p.Stall(lab.Both)
				} else {
					p.Refuse(true)
					p.Cut()
				}
				_, lock := handle(lockers[n/2%2], name, ctxlock.AcquireOption{Fencing: true})
				Expect(lock.Token()).To(BeNumerically(">", last), "holding %d, skew %v", n, skew)
				last = lock.Token()
				Expect(lock.Release(bg())).To(Succeed())
				d.mend()
			}
		})
	})

	It("comes with each of several locks that are taken together, with a minority down or not", func() {
		d := independent(3)
		a, b := d.redlockOnAll(d.option()), d.redlockOnAll(d.option())
		names := []string{unique(), unique(), unique()}
		last := make([]int64, len(names))
		for _, down := range []int{-1, 0, 1, 2} {
			if down >= 0 {
				d.links[down].Stall(lab.Both)
			}
			ctx, lock, err := a.AcquireAll(bg(), names, ctxlock.AcquireOption{Fencing: true})
			Expect(err).NotTo(HaveOccurred())
			_, _, err = b.AcquireAll(bg(), names[1:], ctxlock.AcquireOption{Mode: ctxlock.Try})
			Expect(err).To(MatchError(ctxlock.ErrNotLocked))
			for i, each := range lock.Each() {
				Expect(each.Token()).To(BeNumerically(">", last[i]))
				last[i] = each.Token()
			}
			if down == 0 {
				Consistently(ctx.Done(), 5*validity/4).ShouldNot(BeClosed())
			}
			start := time.Now()
			Expect(lock.Release(bg())).To(Succeed())
			Expect(time.Since(start)).To(BeNumerically("<", time.Second))
			d.mend()
		}
	})
})

var _ = Describe("Who looks at locks on nodes", Label("control"), func() {
	It("sees what is held although a minority is in trouble", func() {
		d := independent(3)
		together(everyTrouble(), func(t troubled) {
			own, name := d.relinked(3), unique()
			option := own.option()
			option.TryNextAfter = nodePatience
			a, eye := d.redlockOnAll(d.direct()), d.redlockOnAll(option)
			defer own.mend(eye)
			_, lock := handle(a, name, ctxlock.AcquireOption{Validity: 20 * time.Second})
			d.holds(name, lock.Value(), 0, 1, 2)
			t.make(own.links[t.node])
			for free, name := range []string{name, unique()} {
				start := time.Now()
				status, err := eye.Look(bg(), name)
				Expect(err).NotTo(HaveOccurred(), "%v", t)
				Expect(status.Held).To(Equal(free == 0), "%v", t)
				Expect(time.Since(start)).To(BeNumerically("<", option.TryNextAfter+busy), "%v", t)
			}
		})
	})

	for _, trouble := range troubles {
		It("lists what is held, in bounded time, although a minority "+trouble.what, func() {
			d := independent(3)
			a, held := d.redlockOnAll(d.direct()), make(map[string]*ctxlock.Lock)
			for range 5 {
				name := unique()
				_, held[name] = handle(a, name, ctxlock.AcquireOption{Validity: 20 * time.Second})
				d.holds(name, held[name].Value(), 0, 1, 2)
			}
			together(upTo(3), func(i int) {
				own := d.relinked(3)
				option := own.option()
				option.TryNextAfter = nodePatience
				eye := d.redlockOnAll(option)
				defer own.mend(eye)
				trouble.make(own.links[i])
				ctx, stop := context.WithTimeout(bg(), 2*soon)
				defer stop()
				start, seen := time.Now(), 0
				for status, err := range eye.List(ctx) {
					Expect(err).NotTo(HaveOccurred(), "node %d, after %v", i, time.Since(start))
					if held[status.Name] != nil { // else it is another's here
						Expect(status.Value).To(Equal(held[status.Name].Value()))
						seen++
					}
				}
				Expect(seen).To(Equal(len(held)), "node %d", i)
				Expect(time.Since(start)).To(BeNumerically("<", soon+2*option.TryNextAfter), "node %d", i)
			})
		})
	}

	It("is told of a lock on a bare majority, one node of which is slow to answer", func() {
		d, name := independent(3), unique()
		eye := d.redlockOnAll(d.option())
		defer d.mend(eye)
		for _, i := range []int{0, 2} {
			interfere(d.servers[i], "SET", key(i, name), "someone", "PX", "20000")
		}
		d.links[2].Delay(100 * time.Millisecond) // far below TryNextAfter
		status, err := eye.Look(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		Expect(status.Held).To(BeTrue())
		_, _, err = eye.TryWithContext(bg(), name)
		Expect(err).To(MatchError(ctxlock.ErrNotLocked), "so it cannot be had")
	})

	It("learns the TTL of a lock on a bare majority, one node of which is slow to answer", func() {
		d, name := independent(3), unique()
		option := d.option()
		for i := range option.Nodes {
			option.Nodes[i].DisableCache = true // it does not hear of what follows
		}
		a := d.redlockOnAll(option)
		_, lock := handle(a, name, ctxlock.AcquireOption{Validity: 20 * time.Second})
		d.holds(name, lock.Value(), 0, 1, 2)
		interfere(d.servers[1], "DEL", key(1, name))
		d.links[2].Delay(100 * time.Millisecond)
		Expect(lock.TTL(bg())).To(BeNumerically(">", 15*time.Second))
		d.links[2].Delay(0)
		Expect(lock.Release(bg())).To(Succeed())
		d.nothingLeft()
	})
})
