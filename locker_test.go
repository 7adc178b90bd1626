package ctxlock_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gleak"
	"github.com/valkey-io/valkey-go"
	"github.com/valkey-io/valkey-go/valkeylock"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// The specs talk to real servers, which they start themselves: see internal/lab. CTXLOCK_SERVER names the server to use.
func TestLocker(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "ctxlock")
}

// A Locker can be used wherever valkeylock's can, and its options convert field by field.
var (
	_ valkeylock.Locker = ctxlock.Locker(nil)
	_                   = ctxlock.LockerOption(valkeylock.LockerOption{})
)

// mix is one combination of options that every promise holds under.
type mix struct {
	majority int32
	noLoop   bool
	setPX    bool
	polling  bool // DisableCache
}

func (m mix) String() string {
	return fmt.Sprintf("majority %d, NOLOOP %t, SET PX %t, polling %t", m.majority, m.noLoop, m.setPX, m.polling)
}

// option is a mix made into options for a server, with a validity short enough to wait for.
func (m mix) option(address ...string) ctxlock.LockerOption {
	return ctxlock.LockerOption{
		KeyMajority:    m.majority,
		NoLoopTracking: m.noLoop,
		FallbackSETPX:  m.setPX,
		KeyValidity:    validity,
		ClientOption:   valkey.ClientOption{InitAddress: address, DisableCache: m.polling},
	}
}

// validity is what specs use unless they say otherwise.
const validity = time.Second

var (
	// plain is the mix for specs that do not depend on it.
	plain = mix{majority: 1}
	// mixes is all of those that matter.
	mixes = []mix{
		{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}, {majority: 2, noLoop: true},
		{majority: 1, setPX: true}, {majority: 2, setPX: true, noLoop: true}, {majority: 1, polling: true}, {majority: 2, polling: true},
	}
)

// forEachMix makes one spec for each mix.
func forEachMix(text string, body func(mix)) {
	GinkgoHelper()
	for _, m := range mixes {
		It(text+" ("+m.String()+")", func() { body(m) })
	}
}

// server starts a server that the spec has to itself. For specs that neither control it nor want it in any special way,
// CTXLOCK_STANDALONE is the address of one that runs already.
func server(config ...lab.Config) *lab.Server {
	GinkgoHelper()
	start := func() (*lab.Server, error) { return lab.Start(append(config, lab.Config{})[0]) }
	if address := os.Getenv("CTXLOCK_STANDALONE"); address != "" && len(config) == 0 && !controls() {
		start = func() (*lab.Server, error) { return lab.Attach(address) }
	}
	s, err := start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(s.Stop)
	return s
}

// controls tells whether the spec is one of those that start, stop and freeze processes.
func controls() bool { return slices.Contains(CurrentSpecReport().Labels(), "control") }

// proxy puts a proxy in front of a server.
func proxy(s *lab.Server) *lab.Proxy {
	GinkgoHelper()
	p, err := lab.NewProxy(s.Addr())
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(p.Close)
	return p
}

// locker makes a locker that is closed when the spec ends.
func locker(option ctxlock.LockerOption) ctxlock.Locker {
	GinkgoHelper()
	l, err := ctxlock.NewLocker(option)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(l.Close)
	return l
}

// queueless is locker for one that does without the queue.
func queueless(option ctxlock.LockerOption) ctxlock.Locker {
	GinkgoHelper()
	l, err := ctxlock.New(ctxlock.Options{LockerOption: option, Contention: ctxlock.Contention{NoQueue: true}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(l.Close)
	return l
}

var names atomic.Int64

// unique is a lock name that no other spec uses.
func unique() string { return fmt.Sprintf("spec %d/%d", GinkgoParallelProcess(), names.Add(1)) }

// bg is the context of calls that nothing else ends: a spec that hangs should say where.
func bg() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	DeferCleanup(func() { cancel() })
	return ctx
}

// keysOn lists the keys of a server that keep its locks, with their wake keys.
func keysOn(s *lab.Server) []string {
	GinkgoHelper()
	reply, err := s.Do("KEYS", "*")
	Expect(err).NotTo(HaveOccurred())
	var keys []string
	for _, key := range reply.([]any) {
		keys = append(keys, key.(string))
	}
	return keys
}

// Goroutines that a spec leaves behind fail it. Servers and proxies of its own have ended by then, because cleanups run last in,
// first out; servers that several specs share have not, and internal/lab sees to them.
var _ = BeforeEach(func() {
	before := gleak.Goroutines()
	DeferCleanup(func() {
		Eventually(gleak.Goroutines).WithTimeout(5 * time.Second).WithPolling(20 * time.Millisecond).ShouldNot(gleak.HaveLeaked(before, gleak.IgnoringCreator("github.com/ctxlock/ctxlock/internal/lab.startProcess")))
	})
})

var _ = Describe("A lock", func() {
	forEachMix("is held by one at a time and handed over", func(m mix) {
		s, name := server(), unique()
		a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
		first, release, err := a.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())

		_, _, err = b.TryWithContext(bg(), name)
		Expect(err).To(MatchError(ctxlock.ErrNotLocked))

		next := make(chan context.Context)
		go func() {
			defer GinkgoRecover()
			second, release, err := b.WithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			Expect(first.Err()).To(HaveOccurred(), "the first context has ended before the second holds")
			defer release()
			next <- second
		}()
		Consistently(next, 3*validity/2).ShouldNot(Receive(), "extended beyond its validity")
		Expect(first.Err()).NotTo(HaveOccurred())
		release()
		Expect(context.Cause(first)).To(MatchError(ctxlock.ErrReleased))
		Eventually(next).Should(Receive())
		Eventually(func() []string { return keysOn(s) }).Should(BeEmpty())
	})
})

// These run only against the servers of docker-compose.yml, which CTXLOCK_CLUSTER names; topology_test.go starts a cluster itself.
var _ = Describe("A lock on a cluster that runs already", func() {
	addresses := strings.Split(os.Getenv("CTXLOCK_CLUSTER"), ",")
	if addresses[0] == "" {
		return
	}
	forEachMix("is held by one at a time and handed over", func(m mix) {
		name := unique()
		a, b := locker(m.option(addresses...)), locker(m.option(addresses...))
		first, release, err := a.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		_, _, err = b.TryWithContext(bg(), name)
		Expect(err).To(MatchError(ctxlock.ErrNotLocked))
		release()
		Expect(context.Cause(first)).To(MatchError(ctxlock.ErrReleased))
		second, release, err := b.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		Expect(second.Err()).NotTo(HaveOccurred())
		release()
	})
})
