package ctxlock_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// inquiry is something that a locker asks the servers when it is made, and the command that begins
// it.
type inquiry struct {
	what string
	mix
	begins func(args []string) bool
}

func begins(words ...string) func([]string) bool {
	return func(args []string) bool {
		if len(args) < len(words) {
			return false
		}
		for i, word := range words {
			if !strings.EqualFold(args[i], word) {
				return false
			}
		}
		return true
	}
}

// askedFor is all of it.
var askedFor = []inquiry{
	{"whether it tracks", plain, begins("CLIENT", "TRACKINGINFO")},
	{"whether it tracks, with NOLOOP", mix{majority: 1, noLoop: true}, begins("CLIENT", "TRACKINGINFO")},
	{"whether an echo comes", plain, begins("PTTL")},
	{"which commands there are", plain, begins("DELIFEQ")},
	{"for messages", plain, begins("SUBSCRIBE")},
	{"whether messages arrive", plain, begins("PUBLISH")},
	{"for a queue", plain, func(args []string) bool { return begins("EVAL")(args) && strings.Contains(args[1], "ZADD") }},
	{"for a queue of all keys", mix{majority: 2}, func(args []string) bool { return begins("ZREM")(args) }},
}

// stallFirst stalls a link when a command comes first, until it is healed.
func stallFirst(p *lab.Proxy, at func([]string) bool) (stalled *atomic.Bool) {
	stalled = new(atomic.Bool)
	p.OnCommand(func(args []string) lab.Action {
		if at(args) && stalled.CompareAndSwap(false, true) {
			p.Stall(lab.Both)
		}
		return lab.Pass
	})
	return stalled
}

// entriesOf are those that stand in a queue.
func entriesOf(s *lab.Server, name string) (entries []string) {
	GinkgoHelper()
	reply, err := s.Do("ZRANGE", queueOf(name), "0", "-1")
	Expect(err).NotTo(HaveOccurred())
	for _, entry := range reply.([]any) {
		entries = append(entries, entry.(string))
	}
	return entries
}

// hears sees that a locker hears of its turn, and of the loss of a lock, at once.
func hears(s *lab.Server, l, other ctxlock.Locker, what string) {
	GinkgoHelper()
	name, check := unique(), new(checker)
	first := take(bg(), other.WithContext, name)
	check.enter(first)
	waiter := begin(bg(), l.WithContext, name, check)
	Eventually(func() int64 { return queued(s, name) }).WithTimeout(soon).Should(BeEquivalentTo(1), what)
	Eventually(func() string { return strings.Join(entriesOf(s, name), " ") }).WithTimeout(soon).
		Should(MatchRegexp(`^\d+:f?:\d+:m`), what)
	first.release()
	held := waiter.gets(busy)
	check.exclusive()
	_, release, err := other.ForceWithContext(bg(), name)
	Expect(err).NotTo(HaveOccurred(), what)
	Eventually(held.Done()).WithTimeout(soon).Should(BeClosed(), what)
	release()
	held.release()
}

var _ = Describe("A locker that is made during a stall", Label("control"), func() {
	It("has its queue and its tracking when that is over, whatever it was asking for", func() {
		const stall = 4 * time.Second
		s := server()
		var work sync.WaitGroup
		for _, a := range askedFor {
			work.Go(func() {
				defer GinkgoRecover()
				option := a.mix.option(s.Addr())
				option.KeyValidity = 20 * time.Second // what is not heard of takes longer than the spec waits
				other := locker(option)
				p := proxy(s)
				option.ClientOption.InitAddress = []string{p.Addr()}
				stalled := stallFirst(p, a.begins)
				said := make(chan error, 10)
				start := time.Now()
				heal := time.AfterFunc(stall, p.Heal)
				defer heal.Stop()
				l := contending(option, ctxlock.Contention{OnFallback: func(err error) { said <- err }})
				Expect(time.Since(start)).To(BeNumerically("<", stall), a.what+": it does not wait for long")
				Expect(stalled.Load()).To(BeTrue(), a.what+": the spec proves nothing")

				hears(s, l, other, a.what)
				var told []error
				for len(said) > 0 {
					told = append(told, <-said)
				}
				GinkgoWriter.Println("asked", a.what, "told", told)
				Expect(len(told)).To(BeNumerically("<=", 1), a.what)
				for _, err := range told {
					Expect(err).To(MatchError(ContainSubstring("no answer yet")), a.what)
				}
			})
		}
		work.Wait()
	})

	It("of a whole server, or of the one node of a cluster, has them when that is over", func() {
		cluster, err := lab.StartCluster(1, 0, lab.Config{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(cluster.Stop)
		together([]*lab.Server{server(), cluster.Nodes[0]}, func(s *lab.Server) {
			const stall = 4 * time.Second
			option := plain.option(s.Addr())
			option.KeyValidity = 20 * time.Second
			option.ClientOption.Dialer.KeepAlive = 10 * time.Second // the client gives no connection up meanwhile
			other := locker(option)
			option.ClientBuilder = func(given valkey.ClientOption) (valkey.Client, error) {
				client, err := valkey.NewClient(given)
				s.Freeze()
				time.AfterFunc(stall, s.Thaw)
				return client, err
			}
			start := time.Now()
			l := locker(option)
			Expect(time.Since(start)).To(BeNumerically("<", stall), "it does not wait for long")
			first := take(bg(), other.WithContext, "{x}")
			waiter := begin(bg(), l.WithContext, "{x}", new(checker))
			Eventually(func() (any, error) { return s.Do("ZCARD", queueBeside("{x}")) }).WithTimeout(soon).Should(BeEquivalentTo(1))
			first.release()
			waiter.gets(busy).release()
		})
	})

	It("can be closed before that is over, which is no reason to do without a queue", func() {
		together(askedFor, func(a inquiry) {
			s := server()
			p := proxy(s)
			stallFirst(p, a.begins)
			said := make(chan error, 10)
			l, err := ctxlock.New(ctxlock.Options{
				LockerOption: a.option(p.Addr()),
				Contention:   ctxlock.Contention{OnFallback: func(err error) { said <- err }},
			})
			Expect(err).NotTo(HaveOccurred())
			start := time.Now()
			l.Close()
			Expect(time.Since(start)).To(BeNumerically("<", 5*time.Second)) // and no goroutine is left
			Consistently(func() error {
				select {
				case err := <-said:
					return err
				default:
					return nil
				}
			}).WithTimeout(busy).Should(Or(Succeed(), MatchError(ContainSubstring("no answer yet"))), a.what)
		})
	})
})

var _ = Describe("A locker that may not subscribe for a while", Label("control"), func() {
	It("is told by touch, and by messages afterwards, and has one place in the queue", func() {
		s, name, check := server(), unique(), new(checker)
		r := newRelay(s)
		r.say(func(args []string) string {
			if begins("SUBSCRIBE")(args) {
				return "-LOADING Redis is loading the dataset in memory\r\n"
			}
			return ""
		})
		option := plain.option(r.address())
		option.KeyValidity = 20 * time.Second
		said := make(chan error, 10)
		l := contending(option, ctxlock.Contention{OnFallback: func(err error) { said <- err }})
		option.ClientOption.InitAddress = []string{s.Addr()}
		other := locker(option)

		told := func(by string) {
			GinkgoHelper()
			Eventually(func() string { return strings.Join(entriesOf(s, name), " ") }).WithTimeout(2 * soon).
				Should(MatchRegexp(`^\d+:f?:\d+:` + by + `\S+$`))
		}
		first := take(bg(), other.WithContext, name)
		waiter := begin(bg(), l.WithContext, name, check)
		told("k")
		first.release()
		waiter.gets(busy).release()

		first = take(bg(), other.WithContext, name)
		waiter = begin(bg(), l.WithContext, name, check)
		told("k")
		r.passOn()
		told("m") // it claims again when it has subscribed, and its old place is gone
		first.release()
		waiter.gets(busy).release()
		check.exclusive()
		Expect(said).NotTo(Receive())
		nothingLeft(s, soon)
	})
})
