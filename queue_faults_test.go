package ctxlock_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// standEnv has the test binary, when a spec starts it again, wait for a lock and hold it until it is told to let go:
// "addresses route majority name".
const standEnv = "CTXLOCK_TEST_STAND"

// TestStandInQueue is not a test but what such a process does; it has nothing to do in any other.
func TestStandInQueue(t *testing.T) {
	told := strings.SplitN(os.Getenv(standEnv), "|", 4)
	if len(told) < 4 {
		return
	}
	m := plain
	if told[2] == "2" {
		m.majority = 2
	}
	l, err := ctxlock.NewLocker(route(told[1]).option(m, strings.Split(told[0], ",")...))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, release, err := l.WithContext(context.Background(), told[3])
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("held")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // at the latest, the end of the process that started this one
	release()
	fmt.Println("released")
}

// child is a process that wants a lock.
type child struct {
	*os.Process
	says chan string
	in   io.Writer
}

// startChild starts one.
func startChild(s *lab.Server, r route, m mix, name string) *child {
	GinkgoHelper()
	return startChildOn([]string{s.Addr()}, r, m, name)
}

// startChildOn starts one with the addresses of a cluster.
func startChildOn(addresses []string, r route, m mix, name string) *child {
	GinkgoHelper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestStandInQueue$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%d|%s", standEnv, strings.Join(addresses, ","), r, m.majority, name))
	in, err := cmd.StdinPipe()
	Expect(err).NotTo(HaveOccurred())
	out, err := cmd.StdoutPipe()
	Expect(err).NotTo(HaveOccurred())
	Expect(cmd.Start()).To(Succeed())
	c := &child{cmd.Process, make(chan string, 10), in}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.says <- lines.Text()
		}
	}()
	DeferCleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait() // it was killed, or has ended
	})
	return c
}

// letGo tells it to release what it holds.
func (c *child) letGo() {
	GinkgoHelper()
	_, err := io.WriteString(c.in, "\n")
	Expect(err).NotTo(HaveOccurred())
	Eventually(c.says).WithTimeout(soon).Should(Receive(Equal("released")))
}

// crowded is a lock whose holder knows of the queue, and who stands in it.
type crowded struct {
	mix
	route
	s     *lab.Server
	name  string
	check *checker
	first holding
	n     int
}

// crowd makes one with nobody in the queue yet.
func crowd(s *lab.Server, r route, m mix) *crowded {
	GinkgoHelper()
	c := &crowded{mix: m, route: r, s: s, name: unique(), check: new(checker)}
	c.first = handedTo(s, c.locker(s.Addr()), c.locker(s.Addr()), c.name, c.check)
	return c
}

func (c *crowded) locker(address string) ctxlock.Locker {
	GinkgoHelper()
	return locker(c.route.option(c.mix, address))
}

// stands has one more stand in the queue.
func (c *crowded) stands(l ctxlock.Locker) *pending {
	GinkgoHelper()
	c.n++
	return stand(c.s, l.WithContext, c.name, c.n, c.check)
}

func (c *crowded) String() string { return fmt.Sprintf("%v, told %s", c.mix, c.route) }

// chosen is when the key of a lock that was given to somebody who does not come for it has run out, and the next has looked.
const chosen = validity + promised + busy

// stateOf is what the system says of a process; empty where it has no such way to tell.
func stateOf(pid int) string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

var faultMixes = []mix{{majority: 1}, {majority: 2}}

// forEachCrowd makes a spec for each way to be told.
func forEachCrowd(text string, body func(s *lab.Server, c *crowded)) {
	GinkgoHelper()
	for _, r := range routes {
		It(text+", told "+string(r), func() {
			s := r.server()
			together(faultMixes, func(m mix) {
				c := crowd(s, r, m)
				body(s, c)
				c.check.exclusive()
			})
			nothingLeft(s, soon)
		})
	}
}

var _ = Describe("When a lock is passed on to one who", Label("control"), func() {
	forEachCrowd("was killed, the next has it within a validity", func(s *lab.Server, c *crowded) {
		dead := startChild(s, c.route, c.mix, c.name)
		standing(s, c.name, 1)
		c.n = 1
		second, third := c.stands(c.locker(s.Addr())), c.stands(c.locker(s.Addr()))
		Expect(dead.Kill()).To(Succeed())
		_, err := dead.Wait()
		Expect(err).NotTo(HaveOccurred())
		start := time.Now()
		c.first.release()
		inAnyOrder([]*pending{second, third}, chosen) // when a key runs out, whoever looks first has it
		GinkgoWriter.Println("both have had it", time.Since(start), "after the release:", c)
	})

	forEachCrowd("is stopped, the next has it within a validity, and the other when it goes on, after that one", func(s *lab.Server, c *crowded) {
		stopped := startChild(s, c.route, c.mix, c.name)
		standing(s, c.name, 1)
		c.n = 1
		second := c.stands(c.locker(s.Addr()))
		Expect(stopped.Signal(syscall.SIGSTOP)).To(Succeed())
		Eventually(func() string { return stateOf(stopped.Process.Pid) }).WithTimeout(soon).Should(Or(Equal("T"), BeEmpty()))
		c.first.release()
		next := second.gets(chosen)
		Expect(stopped.Signal(syscall.SIGCONT)).To(Succeed())
		Consistently(stopped.says, validity).ShouldNot(Receive(), c.String())
		Expect(next.Err()).NotTo(HaveOccurred())
		next.release()
		Eventually(stopped.says).WithTimeout(lookAgain(validity) + busy).Should(Receive(Equal("held")))
		stopped.letGo()
	})

	forEachCrowd("hears of it when it is over, the next has it within a validity, and the other after that one", func(s *lab.Server, c *crowded) {
		p := proxy(s)
		late := c.stands(c.locker(p.Addr()))
		second := c.stands(c.locker(s.Addr()))
		p.Stall(lab.Down)
		c.first.release()
		next := second.gets(chosen)
		p.Heal()
		Consistently(late.done, validity/2).ShouldNot(BeClosed(), c.String())
		Expect(next.Err()).NotTo(HaveOccurred())
		next.release()
		late.gets(lookAgain(validity) + busy).release()
	})

	forEachCrowd("hears of it when the next has had it and given it back, both have had it, one after the other", func(s *lab.Server, c *crowded) {
		p := proxy(s)
		late := c.stands(c.locker(p.Addr()))
		second := c.stands(c.locker(s.Addr()))
		p.Stall(lab.Down)
		c.first.release()
		second.gets(chosen).release()
		p.Heal()
		late.gets(lookAgain(validity) + busy).release()
	})

	for _, r := range routes {
		It("hears of it late, there is no overlap, however late, told "+string(r), func() {
			s := r.server()
			together(upTo(14), func(n int) {
				c := crowd(s, r, faultMixes[n%2])
				p := proxy(s)
				late := c.stands(c.locker(p.Addr()))
				second := c.stands(c.locker(s.Addr()))
				p.Stall(lab.Down)
				c.first.release()
				// From half a validity to a little more than a whole: the trust that is left gets less and less, down to none.
				heal := time.AfterFunc(validity/2+time.Duration(n)*validity/20, p.Heal)
				defer heal.Stop()
				var both sync.WaitGroup
				for _, waiter := range []*pending{late, second} {
					both.Go(func() {
						defer GinkgoRecover()
						held := waiter.gets(2*chosen + soon)
						// And it goes on being held.
						Consistently(func() error { return context.Cause(held) }, validity*3/2).Should(Succeed(), "healed as number %d, %v", n, c)
						held.release()
					})
				}
				both.Wait()
				c.check.exclusive()
			})
			nothingLeft(s, soon)
		})
	}

	for _, when := range []string{"just before", "in the same instant"} {
		forEachCrowd("had its connection killed by the server "+when+", the next has it at once or within a validity, and the other after that", func(s *lab.Server, c *crowded) {
			option := c.route.option(c.mix, s.Addr())
			option.ClientOption.ClientName = strings.ReplaceAll("cut/"+c.name, " ", "_")
			cut := c.stands(locker(option))
			second := c.stands(c.locker(s.Addr()))
			if when == "just before" {
				killClient(s, option.ClientOption.ClientName)
				c.first.release()
			} else {
				released := beginCall(c.first.release)
				killClient(s, option.ClientOption.ClientName)
				released.returns(soon)
			}
			both := make(chan struct{}, 2)
			for _, waiter := range []*pending{cut, second} {
				go func() {
					defer GinkgoRecover()
					defer func() { both <- struct{}{} }()
					waiter.gets(chosen + lookAgain(validity)).release()
				}()
			}
			<-both
			<-both
		})
	}

	forEachCrowd("gives up in the same instant, the next has it at once", func(s *lab.Server, c *crowded) {
		const rounds = 60
		gone, stays, all := c.locker(s.Addr()), c.locker(s.Addr()), bg()
		holder, held := c.locker(s.Addr()), c.first
		var took, won time.Duration
		for n := range rounds {
			ctx, stop := context.WithCancel(all)
			first := stand(s, func(_ context.Context, name string) (context.Context, context.CancelFunc, error) {
				return gone.WithContext(ctx, name)
			}, c.name, 1, nil)
			second := stand(s, stays.WithContext, c.name, 2, c.check)
			pause := time.Duration(rand.IntN(600)) * time.Microsecond // so that it comes at every point of a release
			start := time.Now()
			released := beginCall(held.release)
			if n%2 == 0 {
				for time.Since(start) < pause { // a timer is not that exact
				}
			}
			stop()
			first.returns(soon)
			first.release()
			if first.err == nil {
				won++
			}
			second.returns(busy)
			took = max(took, time.Since(start))
			Expect(second.err).NotTo(HaveOccurred())
			released.returns(soon)
			next := stand(s, holder.WithContext, c.name, 1, c.check)
			second.release()
			held = next.gets(busy)
		}
		held.release()
		GinkgoWriter.Printf("%v: %d of %d had it in spite of that; the next had it after %v at the latest\n", c, won, rounds, took)
	})
})

// silent has so many stand in the queue, of whom nothing is heard any more, as if they were stopped; until they are healed.
func (c *crowded) silent(n int) (waiters []*pending, links links) {
	GinkgoHelper()
	for range n {
		p := proxy(c.s)
		links, waiters = append(links, p), append(waiters, c.stands(c.locker(p.Addr())))
	}
	links.stall()
	return waiters, links
}

// links are those of several lockers.
type links []*lab.Proxy

func (l links) stall() {
	for _, p := range l {
		p.Stall(lab.Both)
	}
}

func (l links) heal() {
	for _, p := range l {
		p.Heal()
	}
}

// cutOff gives the lock to one who is cut off at once. The queue is empty then.
func (c *crowded) cutOff() (held holding, link *lab.Proxy) {
	GinkgoHelper()
	link = proxy(c.s)
	holder := c.stands(c.locker(link.Addr()))
	c.first.release()
	c.n, held = 0, holder.gets(busy)
	link.Stall(lab.Both)
	return held, link
}

// served begins waits of so many, one after the other, and tells in which order they had the lock.
func (c *crowded) served(n int) (waiters []*pending, order chan int) {
	GinkgoHelper()
	order = make(chan int, n)
	for i := range n {
		l := c.locker(c.s.Addr())
		c.n++
		waiters = append(waiters, stand(c.s, func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
			held, release, err := l.WithContext(ctx, name)
			order <- i
			return held, release, err
		}, c.name, c.n, c.check))
	}
	return waiters, order
}

// inOrder has all waiters get the lock, each soon after the one before, but the first, who may be anybody and has it within a time, and
// be held for a moment. All others come in the order in which they came.
func inOrder(waiters []*pending, order chan int, within time.Duration) {
	GinkgoHelper()
	last, first := -1, -1
	for range waiters {
		var i int
		Eventually(order).WithTimeout(within).WithPolling(time.Millisecond).Should(Receive(&i))
		within = busy
		held := waiters[i].gets(busy)
		if first < 0 {
			first = i
			Consistently(held.Err, validity/4).Should(Succeed()) // by then all who live have claimed again
		} else {
			Expect(i).To(BeNumerically(">", last), "of the others")
			last = i
		}
		held.release()
	}
}

var _ = Describe("When several in the queue", Label("control"), func() {
	forEachCrowd("are silent, they cost no more than one validity together, and have the lock when they are back", func(s *lab.Server, c *crowded) {
		silent, links := c.silent(8)
		live, order := c.served(3)
		start := time.Now()
		c.first.release()
		inOrder(live, order, chosen)
		GinkgoWriter.Println("all have had it", time.Since(start), "after the release:", c)
		links.heal()
		inAnyOrder(silent, lookAgain(validity)+busy)
	})

	forEachCrowd("are silent behind a holder that was cut off, too, they cost no more than its validity", func(s *lab.Server, c *crowded) {
		held, link := c.cutOff()
		silent, links := c.silent(5)
		live, order := c.served(4)
		start := time.Now()
		inOrder(live, order, chosen)
		GinkgoWriter.Println("all have had it", time.Since(start), "after that:", c)
		link.Heal()
		held.release()
		links.heal()
		inAnyOrder(silent, lookAgain(validity)+busy)
	})

	It("are stopped again and again, each time costs no more than one validity together", func() {
		together(routes, func(r route) {
			s := r.server()
			c := crowd(s, r, plain)
			silent, links := c.silent(5)
			for range 2 {
				live, order := c.served(2)
				start := time.Now()
				c.first.release()
				inOrder(live, order, chosen)
				GinkgoWriter.Println("both have had it", time.Since(start), "after the release:", c)
				c.first = take(bg(), c.locker(s.Addr()).WithContext, c.name)
				links.heal()
				standing(s, c.name, len(silent)) // they claim again
				c.n = len(silent)
				links.stall()
			}
			links.heal()
			c.first.release()
			inAnyOrder(silent, lookAgain(validity)+busy)
			c.check.exclusive()
			nothingLeft(s, soon)
		})
	})

	It("are stopped processes, they cost no more than one validity together", func() {
		s := byMessage.server()
		together(faultMixes, func(m mix) {
			c := crowd(s, byMessage, m)
			var all []*child
			for i := range 4 {
				all = append(all, startChild(s, c.route, c.mix, c.name))
				standing(s, c.name, i+1)
			}
			c.n = len(all)
			live, order := c.served(2)
			for _, stopped := range all {
				Expect(stopped.Signal(syscall.SIGSTOP)).To(Succeed())
				Eventually(func() string { return stateOf(stopped.Process.Pid) }).WithTimeout(soon).Should(Or(Equal("T"), BeEmpty()))
			}
			start := time.Now()
			c.first.release()
			inOrder(live, order, chosen)
			GinkgoWriter.Println("both have had it", time.Since(start), "after the release:", c)
			for _, stopped := range all {
				Expect(stopped.Kill()).To(Succeed())
			}
			c.check.exclusive()
		})
	})
})

// killClient has the server close the connections of a client of some name.
func killClient(s *lab.Server, name string) {
	GinkgoHelper()
	reply, err := s.Do("CLIENT", "LIST")
	Expect(err).NotTo(HaveOccurred())
	killed := 0
	for line := range strings.Lines(reply.(string)) {
		if !strings.Contains(line, " name="+name+" ") {
			continue
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
		interfere(s, "CLIENT", "KILL", "ID", id)
		killed++
	}
	Expect(killed).To(BeNumerically(">", 0), "connections of "+name)
}

var _ = Describe("When a holder with a queue behind it", Label("control"), func() {
	forEachCrowd("was killed, all who wait have it once its key has run out", func(s *lab.Server, c *crowded) {
		dead := startChild(s, c.route, c.mix, c.name)
		standing(s, c.name, 1)
		c.first.release()
		Eventually(dead.says).WithTimeout(soon).Should(Receive(Equal("held")))
		first, second := c.stands(c.locker(s.Addr())), c.stands(c.locker(s.Addr()))
		Eventually(rises(s, firstKey(c.name))).WithTimeout(soon).Should(BeTrue(), "it is extended")
		Expect(dead.Kill()).To(Succeed())
		_, err := dead.Wait()
		Expect(err).NotTo(HaveOccurred())
		expires := time.Now().Add(ttl(s, firstKey(c.name)))
		inAnyOrder([]*pending{first, second}, time.Until(expires)+promised+busy) // whoever looks first has it
		GinkgoWriter.Println("both have had it", time.Since(expires), "after the key's end:", c)
	})

	forEachCrowd("is cut off, those who wait have it in the order in which they came, but for the first who looks", func(s *lab.Server, c *crowded) {
		held, link := c.cutOff()
		waiters, order := c.served(12)
		inOrder(waiters, order, chosen)
		link.Heal()
		held.release()
	})

	forEachCrowd("was killed, and somebody who does without the queue takes the key, the first in the queue is told when that one lets go", func(s *lab.Server, c *crowded) {
		waiter := c.stands(c.locker(s.Addr()))
		interfereEach(s, c.keys(c.name), "SET", "theirs", "PX", "60000")
		c.first.release()
		time.Sleep(2 * lookAgain(validity)) // by then it has looked: nothing else tells of that
		interfereEach(s, c.keys(c.name), "DEL")
		waiter.gets(validity / 2).release()
	})

	forEachCrowd("was killed, and somebody who does without the queue takes the key, silent ones in the queue do not keep others from being told", func(s *lab.Server, c *crowded) {
		silent, links := c.silent(4)
		live := c.stands(c.locker(s.Addr()))
		interfereEach(s, c.keys(c.name), "SET", "theirs", "PX", "60000")
		c.first.release()
		time.Sleep(2 * lookAgain(validity)) // by then it has looked: nothing else tells of that
		interfereEach(s, c.keys(c.name), "DEL")
		live.gets(validity / 2).release()
		links.heal()
		inAnyOrder(silent, lookAgain(validity)+busy)
	})

	forEachCrowd("is cut off, its context ends before the first has it", func(s *lab.Server, c *crowded) {
		p := proxy(s)
		holder := c.stands(c.locker(p.Addr()))
		c.first.release()
		held := holder.gets(busy)
		c.n = 0
		first := c.stands(c.locker(s.Addr()))
		p.Stall(lab.Both)
		expires := time.Now().Add(ttl(s, firstKey(c.name)))
		next := first.gets(validity + soon)
		Expect(held.Err()).To(HaveOccurred())
		Expect(time.Now()).To(BeTemporally("<", expires.Add(promised+busy)), c.String())
		p.Heal()
		held.release()
		Consistently(next.Err, validity/2).Should(Succeed())
		next.release()
	})

	forEachCrowd("is closed, the first has it at once", func(s *lab.Server, c *crowded) {
		last := c.locker(s.Addr())
		holder := c.stands(last)
		c.first.release()
		held := holder.gets(busy)
		c.n = 0
		first, second := c.stands(c.locker(s.Addr())), c.stands(c.locker(s.Addr()))
		closing := beginCall(last.Close)
		next := first.gets(busy)
		Expect(context.Cause(held)).To(MatchError(ctxlock.ErrLockerClosed))
		closing.returns(soon)
		next.release()
		second.gets(busy).release()
	})

	forEachCrowd("is closed, and so are those who wait, all of them return", func(s *lab.Server, c *crowded) {
		a, b := c.locker(s.Addr()), c.locker(s.Addr())
		first, second := c.stands(a), c.stands(b)
		closing := beginCall(a.Close)
		Expect(first.fails(soon)).To(MatchError(ctxlock.ErrLockerClosed))
		closing.returns(soon)
		standing(s, c.name, 1)
		c.first.release()
		second.gets(busy).release()
	})
})

// claimsAgain is by when one who stands in the queue makes sure of its place: after ten seconds, at a look.
const claimsAgain = 10*time.Second + 2*validity

var _ = Describe("When the queue", Label("control"), func() {
	forEachCrowd("is deleted, or evicted, all who stood in it get the lock, each within a look", func(s *lab.Server, c *crowded) {
		var waiters []*pending
		for range 3 {
			waiters = append(waiters, c.stands(c.locker(s.Addr())))
		}
		interfere(s, "DEL", queueOf(c.name))
		c.first.release()
		inAnyOrder(waiters, lookAgain(validity)+busy)
	})

	forEachCrowd("is deleted while others come and go, who stood in it gets the lock when it claims again", func(s *lab.Server, c *crowded) {
		lost := c.stands(c.locker(s.Addr()))
		interfere(s, "DEL", queueOf(c.name))
		var stop atomic.Bool
		var work sync.WaitGroup
		ctx, ready := bg(), make(chan struct{})
		for range 2 {
			l := c.locker(s.Addr())
			work.Go(func() {
				defer GinkgoRecover()
				<-ready
				for !stop.Load() {
					held, release, err := l.WithContext(ctx, c.name)
					Expect(err).NotTo(HaveOccurred())
					c.check.enter(held)
					release()
				}
			})
		}
		close(ready)
		standing(s, c.name, 2)
		c.first.release()
		start := time.Now()
		lost.returns(claimsAgain + soon)
		took := time.Since(start)
		stop.Store(true)
		lost.gets(0).release()
		work.Wait()
		GinkgoWriter.Println("had it after", took, c)
		Expect(took).To(BeNumerically("<", claimsAgain+busy))
	})

	for _, by := range []struct {
		what string
		verb string
		args []string
	}{
		{"a string", "SET", []string{"x"}}, {"a hash", "HSET", []string{"f", "v"}}, {"a list", "RPUSH", []string{"x"}},
		{"a string that runs out", "SET", []string{"x", "PX", "1500"}},
	} {
		forEachCrowd("is overwritten with "+by.what+", all get the lock, each within a look, and without a queue from there on", func(s *lab.Server, c *crowded) {
			queue := queueOf(c.name)
			waiters := []*pending{c.stands(c.locker(s.Addr())), c.stands(c.locker(s.Addr()))}
			interfere(s, "DEL", queue)
			interfereEach(s, []string{queue}, by.verb, by.args...)
			c.first.release()
			inAnyOrder(waiters, lookAgain(validity)+busy)

			a, b := c.locker(s.Addr()), c.locker(s.Addr())
			first := take(bg(), a.WithContext, c.name)
			c.check.enter(first)
			waiter := begin(bg(), b.WithContext, c.name, c.check)
			Consistently(waiter.done, validity/4).ShouldNot(BeClosed())
			first.release()
			waiter.gets(lookAgain(validity) + busy).release()

			interfere(s, "DEL", queue)
			c.n = 0
			c.first = handedTo(s, a, b, c.name, c.check) // it is in use again
			c.first.release()
		})
	}

	forEachCrowd("has entries that nobody made, they are passed over", func(s *lab.Server, c *crowded) {
		waiter := c.stands(c.locker(s.Addr()))
		for i, entry := range []string{
			"", "x", ":", "::::", "500::1:m", "500::1:m:", "500::1:mnobody:", "500::1:mnobody:owner", "-5::1:mnobody:owner", "0::1:mnobody:owner",
			"9999999999999999999::1:mnobody:owner", "500:g:1:mnobody:owner", "1e3::1:mnobody:owner", "500::x:mnobody:owner", "500::1:zx:owner",
			"\x00\xff\r\n", strings.Repeat("9", 100000), "500::1:m%s%d:%n",
		} {
			interfere(s, "ZADD", queueOf(c.name), fmt.Sprint(i-100), entry)
		}
		c.first.release()
		within := busy
		if c.route == byTouch {
			within += lookAgain(validity) // who may not send messages cannot tell whom he would have to pass over
		}
		waiter.gets(within).release()
		interfere(s, "DEL", queueOf(c.name)) // what was added is a stranger's
	})

	forEachCrowd("has the entry of one who does not exist, the lock is lost to it for no longer than the validity in it", func(s *lab.Server, c *crowded) {
		waiter := c.stands(c.locker(s.Addr()))
		interfere(s, "ZADD", queueOf(c.name), "0", "700::1:knobody:ctxlock/nobody.0/+1")
		c.first.release()
		waiter.gets(max(700*time.Millisecond, lookAgain(validity)) + promised + busy).release()
	})
})

// inAnyOrder has all get the lock, each within a time after the one before.
func inAnyOrder(waiters []*pending, within time.Duration) {
	GinkgoHelper()
	got := make(chan *pending, len(waiters))
	for _, waiter := range waiters {
		go func() {
			<-waiter.done
			got <- waiter
		}()
	}
	for range waiters {
		var waiter *pending
		Eventually(got).WithTimeout(within).Should(Receive(&waiter))
		Expect(waiter.err).NotTo(HaveOccurred())
		waiter.release()
	}
}

var _ = Describe("When a server with a queue", Label("control"), func() {
	for _, r := range routes {
		It("is emptied, the lock ends as deleted, and all who wait get it, told "+string(r), func() {
			together(faultMixes, func(m mix) {
				s := r.server()
				c := crowd(s, r, m)
				waiters := []*pending{c.stands(c.locker(s.Addr())), c.stands(c.locker(s.Addr())), c.stands(c.locker(s.Addr()))}
				interfere(s, "FLUSHALL")
				Expect(end(c.first, busy)).To(Or(beLost(c.name, ctxlock.Deleted), beLost(c.name, ctxlock.Taken)), c.String())
				c.first.release()
				inAnyOrder(waiters, lookAgain(validity)+busy)
				nothingLeft(s, soon)
			})
		})

	}

	It("comes back empty, the lock ends, and all who wait get it", func() {
		together(faultMixes, func(m mix) {
			s := byMessage.server() // by touch there is nobody any more who could wait: users go with the process
			c := crowd(s, byMessage, m)
			waiters := []*pending{c.stands(c.locker(s.Addr())), c.stands(c.locker(s.Addr())), c.stands(c.locker(s.Addr()))}
			s.Kill()
			Expect(s.Restart()).To(Succeed())
			end(c.first, validity+busy)
			c.first.release()
			inAnyOrder(waiters, validity+soon)
			again := crowd(s, byMessage, m)
			waiter := again.stands(again.locker(s.Addr()))
			again.first.release()
			waiter.gets(busy).release()
			nothingLeft(s, soon)
		})
	})

	forEachCrowd("forgets its scripts before each handoff, it is told them again", func(s *lab.Server, c *crowded) {
		lockers := []ctxlock.Locker{c.locker(s.Addr()), c.locker(s.Addr())}
		held := c.first
		for n := range 20 {
			interfere(s, "SCRIPT", "FLUSH")
			waiter := stand(s, lockers[n%2].WithContext, c.name, 1, c.check)
			interfere(s, "SCRIPT", "FLUSH")
			held.release()
			held = waiter.gets(busy)
		}
		held.release()
	})

	It("closes the connection of one who does not take what it is sent, the lock goes to the next, and to that one later", func() {
		s := byMessage.server()
		c := crowd(s, byMessage, plain)
		interfere(s, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 1 normal 1mb 1mb 1")
		p := proxy(s)
		before := inboxes(s)
		slow := c.stands(c.locker(p.Addr()))
		var channel string
		for _, inbox := range inboxes(s) {
			if !strings.Contains(strings.Join(before, " "), inbox) {
				channel = inbox
			}
		}
		Expect(channel).NotTo(BeEmpty())
		second := c.stands(c.locker(s.Addr()))
		p.Stall(lab.Down)
		flood := strings.Repeat("x", 1<<20)
		Eventually(func() (any, error) { return s.Do("PUBLISH", channel, flood) }).WithTimeout(2*soon).Should(BeEquivalentTo(0), "it is closed")
		c.first.release()
		second.gets(busy).release()
		p.Heal()
		slow.gets(lookAgain(validity) + soon).release()
		c.check.exclusive()
		nothingLeft(s, soon)
	})

	It("delivers words that nobody of ctxlock has sent, nobody believes them, and nothing is done on their account", func() {
		s := byMessage.server()
		together(faultMixes, func(m mix) {
			c := crowd(s, byMessage, m)
			waiter := c.stands(c.locker(s.Addr()))
			key := firstKey(c.name)
			for _, channel := range inboxes(s) {
				for _, word := range []string{
					"", " ", "pass", "pass ", "pass 1 1 0 1 0", "pass 1 1 0 1 0 999 x", "pass -1 1 0 1 0 3 abc", "pass 99999999999 1 0 1 0 1 ab",
					fmt.Sprintf("pass 1 %d 0 1 0 %d %sctxlock/nobody.0/+1", 2*m.majority-1, len(key), key),
					fmt.Sprintf("pass 2147483647 1 0 1 0 %d %sx", len(key), key), fmt.Sprintf("pass 1 1 9223372036854775807 1 0 %d %sx", len(key), key),
					"look", "look x", "look " + key, "call", "call x", "call " + key, "wait", "wait x", "wait " + key, "self", "sel", "\x00\xff", strings.Repeat("pass ", 1000),
				} {
					interfere(s, "PUBLISH", channel, word)
				}
			}
			Consistently(waiter.done, validity/2).ShouldNot(BeClosed())
			Expect(c.first.Err()).NotTo(HaveOccurred())
			c.first.release()
			waiter.gets(busy).release()
			c.check.exclusive()
		})
		nothingLeft(s, soon)
	})
})

// inboxes lists the channels by which lockers are told.
func inboxes(s *lab.Server) (channels []string) {
	GinkgoHelper()
	reply, err := s.Do("PUBSUB", "CHANNELS", "valkeylock:m:*")
	Expect(err).NotTo(HaveOccurred())
	for _, channel := range reply.([]any) {
		channels = append(channels, channel.(string))
	}
	return channels
}

// storm is trouble of all kinds for those who hand a lock to each other.
type storm struct {
	s      *lab.Server
	name   string
	links  []*lab.Proxy
	random *rand.Rand
}

// blow does one thing.
func (t *storm) blow() {
	p := t.links[t.random.IntN(len(t.links))]
	switch t.random.IntN(9) {
	case 0:
		p.Cut()
	case 1, 2, 3:
		p.Stall([]lab.Direction{lab.Up, lab.Down, lab.Both}[t.random.IntN(3)])
		time.AfterFunc(time.Duration(t.random.IntN(300))*time.Millisecond, p.Heal)
	case 4:
		interfere(t.s, "DEL", queueOf(t.name))
	case 5:
		interfere(t.s, "SCRIPT", "FLUSH")
	case 6:
		interfere(t.s, "CLIENT", "KILL", "TYPE", []string{"normal", "pubsub"}[t.random.IntN(2)])
	case 7:
		p.Delay(time.Duration(t.random.IntN(20)) * time.Millisecond)
	case 8:
		interfere(t.s, "DEL", queueOf(t.name))
		interfere(t.s, "SET", queueOf(t.name), "x", "PX", fmt.Sprint(1+t.random.IntN(200)))
	}
}

var _ = Describe("Handoffs in a storm", Label("control"), func() {
	for _, r := range routes {
		for _, m := range []mix{{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}} {
			It(fmt.Sprintf("never give a lock to two, tokens rise, and all goes on afterwards (%v, told %s)", m, r), func() {
				s := r.server()
				t := &storm{s: s, name: unique(), random: rand.New(rand.NewPCG(uint64(GinkgoRandomSeed()), uint64(m.majority)))}
				check, log := new(checker), newTokenLog()
				ctx, end := context.WithCancel(context.Background())
				defer end()
				var work sync.WaitGroup
				var got [6]atomic.Int64
				for i := range got {
					p := proxy(s)
					t.links = append(t.links, p)
					option := r.option(m, p.Addr())
					option.KeyValidity, option.TryNextAfter = tokenValidity, tokenValidity
					l := locker(option)
					for j := range 2 {
						random := rand.New(rand.NewPCG(uint64(GinkgoRandomSeed()), uint64(i*2+j)))
						work.Go(func() {
							for ctx.Err() == nil {
								short, stop := context.WithTimeout(ctx, time.Duration(1+random.IntN(1000))*time.Millisecond)
								call := log.begin(t.name, fmt.Sprint(i, ".", j))
								held, lock, err := l.Acquire(short, t.name, ctxlock.AcquireOption{Fencing: i < 3})
								if err == nil {
									check.enter(held)
									if i < 3 {
										log.enter(call, lock)
									}
									got[i].Add(1)
									_ = lock.Release(ctx)
								}
								stop()
							}
						})
					}
				}
				for start := time.Now(); time.Since(start) < 6*time.Second; time.Sleep(10 * time.Millisecond) { // a pace, not a wait
					t.blow()
				}
				for _, p := range t.links {
					p.Heal()
					p.Delay(0)
				}
				var before [len(got)]int64
				for i := range got {
					before[i] = got[i].Load()
				}
				for i := range got {
					Eventually(got[i].Load).WithTimeout(5*time.Second).Should(BeNumerically(">", before[i]+2), "locker %d", i)
				}
				end()
				work.Wait()
				GinkgoWriter.Println("seed", GinkgoRandomSeed(), "holdings in the storm:", before)
				check.exclusive()
				Expect(log.wrong).To(BeEmpty())
				Eventually(func() []string { return locksLeft(s) }).WithTimeout(5 * soon).Should(BeEmpty())
			})
		}
	}
})
