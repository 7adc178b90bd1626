package fence_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gleak"
	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/fence"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// The specs talk to real servers, which they start themselves: see internal/lab. CTXLOCK_SERVER names the server to use.
func TestFence(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "fence")
}

// Goroutines that a spec leaves behind fail it.
var _ = BeforeEach(func() {
	before := gleak.Goroutines()
	DeferCleanup(func() {
		Eventually(gleak.Goroutines).WithTimeout(5 * time.Second).WithPolling(20 * time.Millisecond).
			ShouldNot(gleak.HaveLeaked(before, gleak.IgnoringCreator("github.com/ctxlock/ctxlock/internal/lab.startProcess")))
	})
})

func server() *lab.Server {
	GinkgoHelper()
	s, err := lab.Start(lab.Config{})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(s.Stop)
	return s
}

func client(option valkey.ClientOption) valkey.Client {
	GinkgoHelper()
	c, err := valkey.NewClient(option)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(c.Close)
	return c
}

func clientOf(s *lab.Server) valkey.Client {
	GinkgoHelper()
	return client(valkey.ClientOption{InitAddress: []string{s.Addr()}})
}

// bg is the context of calls that nothing else ends: a spec that hangs should say where.
func bg() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	DeferCleanup(func() { cancel() })
	return ctx
}

// ask sends a command past the fence.
func ask(s *lab.Server, args ...string) any {
	GinkgoHelper()
	reply, err := s.Do(args...)
	Expect(err).NotTo(HaveOccurred())
	return reply
}

// text is a reply that is a string.
func text(reply valkey.ValkeyMessage, err error) string {
	GinkgoHelper()
	Expect(err).NotTo(HaveOccurred())
	s, err := reply.ToString()
	Expect(err).NotTo(HaveOccurred())
	return s
}

func expectStale(err error, key string, token, seen int64) {
	GinkgoHelper()
	var stale *fence.StaleError
	Expect(errors.As(err, &stale)).To(BeTrue(), "%v", err)
	Expect(*stale).To(Equal(fence.StaleError{Key: key, Token: token, Seen: seen}))
	Expect(err).To(MatchError(fence.ErrStale))
}

// usual is a token as locks have them: microseconds since 1970.
const usual = int64(1_800_000_000_000_000)

const greatest = int64(1)<<53 - 1

var _ = Describe("A resource", func() {
	var (
		s *lab.Server
		r *fence.Resource
	)
	BeforeEach(func() {
		s = server()
		r = &fence.Resource{Client: clientOf(s), Key: "stock:42"}
	})

	seen := func() int64 {
		GinkgoHelper()
		token, err := r.Seen(bg())
		Expect(err).NotTo(HaveOccurred())
		return token
	}

	It("takes tokens that are not below the last one, and refuses those that are, without writing", func() {
		Expect(seen()).To(BeZero())
		Expect(text(r.Do(bg(), usual, "SET", "first"))).To(Equal("OK"))
		Expect(text(r.Do(bg(), usual, "SET", "again"))).To(Equal("OK"))
		Expect(text(r.Do(bg(), usual+1, "SET", "next"))).To(Equal("OK"))
		Expect(seen()).To(Equal(usual + 1))

		_, err := r.Do(bg(), usual, "SET", "late")
		expectStale(err, r.Key, usual, usual+1)
		Expect(err).To(MatchError(fmt.Sprintf(`fence: "stock:42": token %d is stale, %d has been seen`, usual, usual+1)))
		expectStale(r.Check(bg(), 1), r.Key, 1, usual+1)
		Expect(ask(s, "GET", r.Key)).To(Equal("next"))
		Expect(ask(s, "KEYS", "*")).To(ConsistOf(r.Key, "ctxlock-fence:{stock:42}"))
	})

	It("tells all tokens apart, from the smallest to the greatest", func() {
		for _, token := range []int64{1, 2, 9, 10, 99, 100, usual, usual + 1, greatest - 1, greatest} {
			Expect(r.Check(bg(), token)).To(Succeed())
			Expect(seen()).To(Equal(token))
			if token > 1 {
				expectStale(r.Check(bg(), token-1), r.Key, token-1, token)
			}
		}
	})

	It("can be closed to those before by a check, which writes nothing", func() {
		Expect(r.Check(bg(), 7)).To(Succeed())
		Expect(r.Check(bg(), 7)).To(Succeed())
		_, err := r.Do(bg(), 6, "SET", "late")
		expectStale(err, r.Key, 6, 7)
		Expect(ask(s, "EXISTS", r.Key)).To(BeZero())
	})

	It("gives replies of all kinds", func() {
		reply, err := r.Do(bg(), 1, "HSET", "amount", "17", "place", "\x00\xff\r\n")
		Expect(err).NotTo(HaveOccurred())
		Expect(reply.AsInt64()).To(Equal(int64(2)))
		reply, err = r.Do(bg(), 1, "HGETALL")
		Expect(err).NotTo(HaveOccurred())
		Expect(reply.AsStrMap()).To(Equal(map[string]string{"amount": "17", "place": "\x00\xff\r\n"}))
		reply, err = r.Do(bg(), 1, "HGET", "nothing")
		Expect(err).NotTo(HaveOccurred())
		Expect(reply.IsNil()).To(BeTrue())
		reply, err = r.Do(bg(), 1, "HMGET", "nothing", "amount")
		Expect(err).NotTo(HaveOccurred())
		items, err := reply.ToArray()
		Expect(err).NotTo(HaveOccurred())
		Expect(items).To(HaveLen(2))
		Expect(items[0].IsNil()).To(BeTrue())
		Expect(text(items[1], nil)).To(Equal("17"))
		reply, err = r.Do(bg(), 1, "DEL")
		Expect(err).NotTo(HaveOccurred())
		Expect(reply.AsInt64()).To(Equal(int64(1)))
		Expect(text(r.Do(bg(), 1, "SET", ""))).To(Equal("OK"))
		Expect(text(r.Do(bg(), 1, "GET"))).To(BeEmpty())
	})

	It("counts the token of a command that fails, and gives the server's error", func() {
		ask(s, "RPUSH", r.Key, "a list")
		for i, command := range [][]string{
			{"HSET", "field", "value"}, {"INCR"}, {"HSET"}, {"NOCOMMAND", "x"}, {"SUBSCRIBE"}, {"LSET", "5", "x"}, {"lua()"},
		} {
			token := int64(i + 10)
			reply, err := r.Do(bg(), token, command[0], command[1:]...)
			Expect(err).To(MatchError(HavePrefix(`fence: "stock:42": `)), "%v", command)
			var refusal *valkey.ValkeyError
			Expect(errors.As(err, &refusal)).To(BeTrue(), "%v: %v", command, err)
			Expect(err).NotTo(MatchError(fence.ErrStale))
			Expect(reply).To(Equal(valkey.ValkeyMessage{}))
			expectStale(r.Check(bg(), token-1), r.Key, token-1, token)
		}
		_, err := r.Do(bg(), 100, "HSET", "field", "value")
		Expect(err).To(MatchError(ContainSubstring("WRONGTYPE")))
		Expect(ask(s, "LRANGE", r.Key, "0", "-1")).To(Equal([]any{"a list"}))
	})

	It("takes thousands of arguments, and writes none of too many", func() {
		_, err := r.Do(bg(), 1, "RPUSH", strings.Split(strings.Repeat("x", 7900), "")...)
		Expect(err).NotTo(HaveOccurred())
		Expect(ask(s, "LLEN", r.Key)).To(Equal(int64(7900)))
		_, err = r.Do(bg(), 2, "RPUSH", strings.Split(strings.Repeat("x", 9000), "")...)
		Expect(err).To(MatchError(ContainSubstring("too many")))
		expectStale(r.Check(bg(), 1), r.Key, 1, 2)
		Expect(ask(s, "LLEN", r.Key)).To(Equal(int64(7900)))
	})

	It("does not take for a token what a stranger has put in its place, until it is told to forget", func() {
		var guard string
		Expect(r.Check(bg(), usual)).To(Succeed())
		for _, key := range ask(s, "KEYS", "*").([]any) {
			guard = key.(string)
		}
		garbage := [][]string{{"HSET", guard, "field", "value"}, {"RPUSH", guard, "5"}}
		for _, value := range []string{"", "0", "-1", "+5", "05", " 5", "5 ", "5.0", "5e0", "0x5", "nan", "inf", "five", "5\x00", "5\n", "\xff",
			"9007199254740992", "9007199254740993", "18446744073709551616", strings.Repeat("9", 1000), strings.Repeat("x", 1<<20)} {
			garbage = append(garbage, []string{"SET", guard, value})
		}
		for _, command := range garbage {
			ask(s, "DEL", guard)
			ask(s, command...)
			before := ask(s, "DUMP", guard)
			what := fmt.Sprintf("%.40q", command)

			_, err := r.Do(bg(), greatest, "SET", "x")
			Expect(err).To(HaveOccurred(), what)
			Expect(len(err.Error())).To(BeNumerically("<", 300), what)
			Expect(err).NotTo(MatchError(fence.ErrStale), what)
			Expect(r.Check(bg(), greatest)).NotTo(Succeed(), what)
			_, err = r.Seen(bg())
			Expect(err).To(HaveOccurred(), what)
			Expect(ask(s, "EXISTS", r.Key)).To(BeZero(), what)
			Expect(ask(s, "DUMP", guard)).To(Equal(before), what)

			Expect(r.Forget(bg())).To(Succeed(), what)
			Expect(r.Check(bg(), 1)).To(Succeed(), what)
		}
	})

	It("is not changed by more than one of many writers at once, and ends with the greatest token", func() {
		const writers, each = 16, 50
		var work sync.WaitGroup
		var refused [writers]int
		for w := range writers {
			own := &fence.Resource{Client: clientOf(s), Key: r.Key}
			work.Go(func() {
				defer GinkgoRecover()
				for i := range each {
					token := usual + int64(i*writers+(w*7+i*3)%writers)
					_, err := own.Do(bg(), token, "RPUSH", strconv.FormatInt(token, 10))
					if errors.Is(err, fence.ErrStale) {
						refused[w]++
						continue
					}
					Expect(err).NotTo(HaveOccurred())
				}
			})
		}
		work.Wait()
		written := ask(s, "LRANGE", r.Key, "0", "-1").([]any)
		last := int64(0)
		for _, item := range written {
			token, err := strconv.ParseInt(item.(string), 10, 64)
			Expect(err).NotTo(HaveOccurred())
			Expect(token).To(BeNumerically(">", last), "each token was used once")
			last = token
		}
		Expect(last).To(Equal(usual + writers*each - 1))
		Expect(seen()).To(Equal(last))
		total := len(written)
		for _, n := range refused {
			total += n
		}
		Expect(total).To(Equal(writers * each))
		AddReportEntry(fmt.Sprintf("%d of %d written", len(written), writers*each))
	})

	It("costs one round trip, and two where the server does not know the script", func() {
		for range 3 {
			ask(s, "SCRIPT", "FLUSH")
			bySum, whole := s.Calls("evalsha"), s.Calls("eval")
			Expect(text(r.Do(bg(), 5, "SET", "x"))).To(Equal("OK"))
			Expect([]int64{s.Calls("evalsha") - bySum, s.Calls("eval") - whole}).To(Equal([]int64{1, 1}))
			Expect(text(r.Do(bg(), 6, "SET", "x"))).To(Equal("OK"))
			Expect(r.Check(bg(), 7)).To(Succeed())
			Expect([]int64{s.Calls("evalsha") - bySum, s.Calls("eval") - whole}).To(Equal([]int64{3, 1}))
			Expect(r.Forget(bg())).To(Succeed())
		}
	})

	It("remembers for ever, or for as long as it is told after the last call that passed", func() {
		left := func() int64 { return ask(s, "PTTL", "ctxlock-fence:{stock:42}").(int64) }
		Expect(r.Check(bg(), 5)).To(Succeed())
		Expect(left()).To(Equal(int64(-1)))

		brief := &fence.Resource{Client: r.Client, Key: r.Key, Keep: time.Minute}
		Expect(brief.Check(bg(), 5)).To(Succeed())
		Expect(left()).To(BeNumerically("~", 60_000, 5000))
		Expect(r.Check(bg(), 5)).To(Succeed())
		Expect(left()).To(Equal(int64(-1)))
		Expect(brief.Check(bg(), 6)).To(Succeed())
		Expect(left()).To(BeNumerically("~", 60_000, 5000))
		expectStale(r.Check(bg(), 5), r.Key, 5, 6) // which does not change how long
		Expect(left()).To(BeNumerically("~", 60_000, 5000))
		Expect(r.Check(bg(), 7)).To(Succeed())
		Expect(left()).To(Equal(int64(-1)))

		brief.Keep = math.MaxInt64
		Expect(brief.Check(bg(), 7)).To(Succeed())
		Expect(left()).To(BeNumerically(">", int64(1)<<42))
		brief.Keep = time.Millisecond + 1 // rounded up to two
		Expect(brief.Check(bg(), 7)).To(Succeed())
		Eventually(seen).Should(BeZero())
		Expect(r.Check(bg(), 1)).To(Succeed())
	})

	It("forgets, and lets all tokens pass then, but leaves what it guards", func() {
		Expect(text(r.Do(bg(), 5, "SET", "x"))).To(Equal("OK"))
		Expect(r.Forget(bg())).To(Succeed())
		Expect(r.Forget(bg())).To(Succeed())
		Expect(seen()).To(BeZero())
		Expect(ask(s, "KEYS", "*")).To(ConsistOf(r.Key))
		Expect(r.Check(bg(), 1)).To(Succeed())
	})

	It("neither notes nor writes when the server is full, but can be emptied by its last writer", func() {
		Expect(text(r.Do(bg(), 5, "SET", "x"))).To(Equal("OK"))
		ask(s, "CONFIG", "SET", "maxmemory", "1")
		_, err := r.Do(bg(), 5, "SET", "y")
		Expect(err).To(MatchError(ContainSubstring("OOM")))
		_, err = r.Do(bg(), 6, "SET", "y")
		Expect(err).To(MatchError(ContainSubstring("OOM")))
		Expect(seen()).To(Equal(int64(5)), "there was no room to note the 6")
		_, err = r.Do(bg(), 5, "DEL")
		Expect(err).NotTo(HaveOccurred())
		Expect(ask(s, "EXISTS", r.Key)).To(BeZero())
	})

	It("does not hold back who writes without a token", func() {
		Expect(text(r.Do(bg(), 5, "SET", "x"))).To(Equal("OK"))
		ask(s, "SET", r.Key, "unfenced")
		Expect(text(r.Do(bg(), 5, "GET"))).To(Equal("unfenced"))
	})

	It("refuses at once what makes no sense", func() {
		var noContext context.Context
		calls := s.Commands()
		for want, call := range map[string]func() error{
			"no client": func() error { return (&fence.Resource{Key: "k"}).Check(bg(), 1) },
			"empty key": func() error { return (&fence.Resource{Client: r.Client}).Check(bg(), 1) },
			"Keep":      func() error { return (&fence.Resource{Client: r.Client, Key: "k", Keep: -1}).Check(bg(), 1) },
			"Keep is 60ns: did you mean 60*time.Second?": func() error { return (&fence.Resource{Client: r.Client, Key: "k", Keep: 60}).Check(bg(), 1) },
			"no context":    func() error { return r.Check(noContext, 1) },
			"0 is no token": func() error { return r.Check(bg(), 0) },
			"see Lock.Each": func() error { return r.Check(bg(), 0) },
			"-1 is no":      func() error { return r.Check(bg(), -1) },
			"740992 is no":  func() error { return r.Check(bg(), greatest+1) },
			"5807 is no":    func() error { return r.Check(bg(), math.MaxInt64) },
			"empty command": func() error { _, err := r.Do(bg(), 1, ""); return err },
			"canceled": func() error {
				ctx, cancel := context.WithCancel(bg())
				cancel()
				return r.Check(ctx, 1)
			},
		} {
			Expect(call()).To(MatchError(And(HavePrefix("fence: "), ContainSubstring(want))))
		}
		var none *fence.Resource
		_, err := none.Do(bg(), 1, "SET", "x")
		Expect(err).To(MatchError(ContainSubstring("no client")))
		_, err = none.Seen(bg())
		Expect(err).To(MatchError(ContainSubstring("no client")))
		Expect(none.Forget(bg())).To(MatchError(ContainSubstring("no client")))
		Expect(s.Calls("evalsha")+s.Calls("eval")).To(BeZero(), "of %d", s.Commands()-calls)
	})

	It("gives the context's error when there is no answer in time, and takes the same token again", func() {
		s.Freeze()
		ctx, cancel := context.WithTimeout(bg(), 50*time.Millisecond)
		defer cancel()
		_, err := r.Do(ctx, 5, "SET", "x")
		Expect(err).To(MatchError(context.DeadlineExceeded))
		s.Thaw()
		Expect(text(r.Do(bg(), 5, "SET", "x"))).To(Equal("OK"))
	})

	It("gives the client's error when there is no server", func() {
		s.Stop()
		ctx, cancel := context.WithTimeout(bg(), 200*time.Millisecond)
		defer cancel()
		Expect(r.Check(ctx, 5)).To(MatchError(HavePrefix(`fence: "stock:42": `)))
		Expect(r.Forget(ctx)).NotTo(Succeed())
		_, err := r.Seen(ctx) // the client repeats what only reads for as long as it may
		Expect(err).To(HaveOccurred())
	})

	It("needs the permissions that are documented, and no others", func() {
		ask(s, append(strings.Fields("ACL SETUSER narrow on nopass ~stock:* ~ctxlock-fence:{stock:42}"),
			"+client", "+hello", "+ping", "+get", "+set", "+pttl", "+evalsha", "+eval", "+hset")...)
		r.Client = client(valkey.ClientOption{InitAddress: []string{s.Addr()}, Username: "narrow", Password: "any"})
		for _, token := range []int64{5, 5, 6} {
			_, err := r.Do(bg(), token, "HSET", "amount", "17")
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(seen()).To(Equal(int64(6)))
		_, err := r.Do(bg(), 7, "HDEL", "amount")
		Expect(err).To(HaveOccurred())
		Expect(seen()).To(Equal(int64(7)))

		other := &fence.Resource{Client: r.Client, Key: "stock:43"} // whose memory is out of reach
		_, err = other.Do(bg(), 5, "HSET", "amount", "17")
		Expect(err).To(MatchError(MatchRegexp("(?i)permission|NOPERM|can't access")))
		Expect(ask(s, "EXISTS", other.Key)).To(BeZero())
	})

	It("works by RESP2, too", func() {
		r.Client = client(valkey.ClientOption{InitAddress: []string{s.Addr()}, AlwaysRESP2: true, DisableCache: true})
		Expect(text(r.Do(bg(), 5, "SET", "x"))).To(Equal("OK"))
		reply, err := r.Do(bg(), 5, "SET", "y", "NX")
		Expect(err).NotTo(HaveOccurred())
		Expect(reply.IsNil()).To(BeTrue())
		_, err = r.Do(bg(), 5, "LPUSH", "y")
		Expect(err).To(MatchError(ContainSubstring("WRONGTYPE")))
		_, err = r.Do(bg(), 4, "SET", "y")
		expectStale(err, r.Key, 4, 5)
		Expect(r.Forget(bg())).To(Succeed())
		Expect(seen()).To(BeZero())
	})
})

// oddKeys have braces of all kinds, and other things that names may have.
func oddKeys() []string {
	all := []string{"{tag}", "{tag}:a", "a:{tag}:b", "a{tag", "}tag{", "a{}b", "{}", "{}{tag}", "{{tag}}", "{{}", "a}b", "}", "{", "{}}", "}{tag}",
		"{ctxlock-fence:}", "ctxlock-fence:{a}", "a\x00b", "a\r\nb", "\xff\xfe", "{\xff}x", "é{ü}", " ", strings.Repeat("k", 1<<16)}
	for _, a := range []string{"", "{", "}", "x"} { // all of four
		for _, b := range []string{"{", "}", "y"} {
			for _, c := range []string{"{", "}", "z"} {
				for _, d := range []string{"{", "}", ""} {
					all = append(all, a+b+c+d)
				}
			}
		}
	}
	return all
}

var _ = Describe("In a cluster, keys of any name", func() {
	It("are guarded, each for itself, by a key in the same slot", func() {
		cluster, err := lab.StartCluster(3, 0, lab.Config{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(cluster.Stop)
		c := client(valkey.ClientOption{InitAddress: cluster.Addrs()})
		Expect(c.Mode()).To(Equal(valkey.ClientModeCluster))

		keysOf := func() map[string]bool {
			keys := make(map[string]bool)
			for _, node := range cluster.Nodes {
				for _, key := range ask(node, "KEYS", "*").([]any) {
					keys[key.(string)] = true
				}
			}
			return keys
		}
		done := make(map[string]bool)
		for i, key := range oddKeys() {
			if done[key] {
				continue
			}
			before := keysOf()
			done[key] = true
			r, token := &fence.Resource{Client: c, Key: key}, usual+int64(i)
			what := fmt.Sprintf("%.40q", key)
			Expect(text(r.Do(bg(), token, "SET", key))).To(Equal("OK"), what)
			_, err := r.Do(bg(), token-1, "SET", "late")
			expectStale(err, key, token-1, token)
			Expect(r.Seen(bg())).To(Equal(token), what)

			after := keysOf()
			Expect(after).To(HaveLen(len(before)+2), what)
			for other := range after {
				if before[other] || other == key {
					continue
				}
				slot, err := cluster.Slot(key)
				Expect(err).NotTo(HaveOccurred())
				Expect(cluster.Slot(other)).To(Equal(slot), what)
			}
		}
		for i, key := range oddKeys() { // what came after has not touched it
			r := &fence.Resource{Client: c, Key: key}
			if seen, err := r.Seen(bg()); seen > usual+int64(i) || err != nil {
				Fail(fmt.Sprintf("%.40q: %d, %v", key, seen-usual, err))
			}
		}
	})

	It("stay guarded while their slot moves", func() {
		cluster, err := lab.StartCluster(2, 0, lab.Config{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(cluster.Stop)
		r := &fence.Resource{Client: client(valkey.ClientOption{InitAddress: cluster.Addrs()}), Key: "stock:42"}
		Expect(text(r.Do(bg(), 5, "SET", "x"))).To(Equal("OK"))
		slot, err := cluster.Slot(r.Key)
		Expect(err).NotTo(HaveOccurred())
		from, err := cluster.Primary(r.Key)
		Expect(err).NotTo(HaveOccurred())
		to := cluster.Nodes[0]
		if to == from {
			to = cluster.Nodes[1]
		}
		Expect(cluster.MoveSlot(slot, to)).To(Succeed())
		expectStale(r.Check(bg(), 4), r.Key, 4, 5)
		Expect(text(r.Do(bg(), 6, "SET", "y"))).To(Equal("OK"))
		Expect(ask(to, "GET", r.Key)).To(Equal("y"))
	})
})

var _ = Describe("A server that answers nonsense", func() {
	It("is not believed", func() {
		for _, nonsense := range []string{
			"+OK", "+passed", "+stale", "$-1", "$6\r\npassed", ":0", "-ERR", "-NOSCRIPT", "*-1", "*0", "*1\r\n*0", "*1\r\n$-1", "*1\r\n:1", "*1\r\n-passed",
			"*1\r\n+passed", "*3\r\n+passed\r\n+a\r\n+b", "*2\r\n*1\r\n+passed\r\n+a", "*2\r\n:0\r\n+a", "*2\r\n+PASSED\r\n+a",
			"*1\r\n+stale", "*2\r\n+stale\r\n$-1", "*2\r\n+stale\r\n+x", "*2\r\n+stale\r\n+4", "*2\r\n+stale\r\n+5", "*2\r\n+stale\r\n+06",
			"*2\r\n+stale\r\n*0", "*2\r\n+stale\r\n-6", "*2\r\n+stale\r\n+9007199254740992", "*1\r\n+foreign", "*2\r\n+foreign\r\n+6",
		} {
			r := &fence.Resource{Client: client(valkey.ClientOption{
				InitAddress: []string{liar(nonsense)}, AlwaysRESP2: true, DisableCache: true,
			}), Key: "stock:42"}
			_, err := r.Do(bg(), 5, "SET", "x")
			Expect(err).To(HaveOccurred(), nonsense)
			Expect(err).NotTo(MatchError(fence.ErrStale), nonsense)
		}
	})
})

// liar is the address of a server that has one answer to all scripts.
func liar(answer string) string {
	GinkgoHelper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(l.Close)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go lie(c, answer)
		}
	}()
	return l.Addr().String()
}

// lie serves a connection until the other side closes it.
func lie(c net.Conn, answer string) {
	defer c.Close()
	in := bufio.NewScanner(c)
	for in.Scan() {
		var items int
		if _, err := fmt.Sscanf(in.Text(), "*%d", &items); err != nil {
			return
		}
		say := "+OK"
		for i := range 2 * items { // each has a line for its length and one, here, for itself
			if !in.Scan() {
				return
			}
			if i == 1 && strings.HasPrefix(in.Text(), "EVAL") {
				say = answer
			}
		}
		if _, err := c.Write([]byte(say + "\r\n")); err != nil {
			return
		}
	}
}
