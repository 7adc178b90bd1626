package ctxlock_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// at is an option for addresses, with changes.
func at(change func(*valkey.ClientOption), addresses ...string) valkey.ClientOption {
	option := valkey.ClientOption{InitAddress: addresses}
	if change != nil {
		change(&option)
	}
	return option
}

// refusedBy is the error of NewLocker with an option.
func refusedBy(option valkey.ClientOption) error {
	GinkgoHelper()
	l, err := ctxlock.NewLocker(ctxlock.LockerOption{ClientOption: option})
	if err == nil {
		l.Close()
	}
	Expect(err).To(HaveOccurred(), strings.Join(option.InitAddress, ","))
	return err
}

// expectAdvice checks that an error of connecting names the addresses, the client's own error, and
// what to do.
func expectAdvice(option valkey.ClientOption, says ...string) (err error) {
	GinkgoHelper()
	err = refusedBy(option)
	GinkgoWriter.Println(err)
	for _, text := range append(says, option.InitAddress...) {
		Expect(err.Error()).To(ContainSubstring(text))
	}
	Expect(err).NotTo(MatchError(context.DeadlineExceeded), "no context of a caller's has ended")
	return err
}

var _ = Describe("Connecting", Label("control"), func() {
	DescribeTable("with an address that cannot be one is an error at once, which says what to write",
		func(says string, addresses ...string) {
			option := at(nil, addresses...)
			err := refusedBy(option)
			Expect(err).To(MatchError(And(ContainSubstring("ClientOption.InitAddress "), ContainSubstring(says))))
			Expect(ctxlock.IsPermanent(err)).To(BeTrue())
			_, err = ctxlock.NewRedlock(ctxlock.RedlockOption{Nodes: []valkey.ClientOption{option}})
			Expect(err).To(MatchError(ContainSubstring("RedlockOption.Nodes[0]")))
			if len(addresses) > 0 {
				Expect(err).To(MatchError(ContainSubstring(says)))
			}
		},
		Entry("a URL", `write "cache:6379", or have valkey.ParseURL`, "redis://cache:6379"),
		Entry("a URL of a socket", "valkey.ParseURL", "unix:///run/valkey.sock"),
		Entry("no port", `"localhost:6379"`, "localhost"),
		Entry("no port after the colon", `"localhost:6379"`, "localhost:"),
		Entry("no port, IPv6", `"[::1]:6379"`, "::1"),
		Entry("several in one", "an element of its own", "a:6379,b:6379"),
		Entry("too many colons", "not host:port", "a:6379:1"),
		Entry("a line break, as files end with", "leave out the white space", "cache:6379\n"),
		Entry("a blank", "leave out the white space", " cache:6379"),
		Entry("a URL with a line break", "white space around it", "redis://cache:6379\n"),
		Entry("none", "is empty"),
	)

	It("with a URL does not show the password in it", func() {
		err := refusedBy(at(nil, "rediss://user:secret@cache:6379/1"))
		Expect(err.Error()).NotTo(ContainSubstring("secret"))
		Expect(refusedBy(at(nil, "redis://user:sec%ret@cache:6379")).Error()).NotTo(ContainSubstring("sec%ret"))
	})

	It("with a dialer of one's own takes any address", func() {
		option := at(nil, "unix:///run/cache")
		option.DialCtxFn = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
			return nil, errors.New("dialed")
		}
		Expect(refusedBy(option)).To(MatchError(ContainSubstring("dialed")))
	})

	It("to a server that does not answer says so", func() {
		s := server()
		p := proxy(s)
		p.Stall(lab.Both)
		option := at(func(o *valkey.ClientOption) { o.Dialer.Timeout = 300 * time.Millisecond }, p.Addr())
		expectAdvice(option, "no answer within 300ms", "context deadline exceeded", "is the address right")
		_, err := ctxlock.NewRedlock(ctxlock.RedlockOption{Nodes: []valkey.ClientOption{option}})
		var quorum *ctxlock.QuorumError
		Expect(errors.As(err, &quorum)).To(BeTrue())
		Expect(quorum.Nodes[0].Outcome).To(Equal(ctxlock.NodeLate))
		Expect(err).To(MatchError(And(ContainSubstring(p.Addr()), ContainSubstring("no answer within 300ms"))))
		Expect(err).NotTo(MatchError(context.DeadlineExceeded))
	})

	It("to where nothing listens says so", func() {
		s := server()
		s.Stop()
		Expect(expectAdvice(at(nil, s.Addr()), "nothing listens there")).To(MatchError(syscall.ECONNREFUSED))
	})

	It("without the right password says which is missing", func() {
		s := server(lab.Config{Password: password})
		for says, change := range map[string]func(*valkey.ClientOption){
			"set ClientOption.Password":  nil,
			"Username or Password is wr": func(o *valkey.ClientOption) { o.Password = "guess" },
		} {
			expectServerError(expectAdvice(at(change, s.Addr()), says))
		}
	})

	It("to several servers that are not one deployment says what there is for that", func() {
		expectServerError(expectAdvice(at(nil, server().Addr(), server().Addr()), "one cluster", "MasterSet", "NewRedlock"))
	})

	It("to a replica is an error at once", func() {
		s := server()
		host, port, _ := strings.Cut(server().Addr(), ":")
		Expect(s.Do("REPLICAOF", host, port)).To(Equal("OK"))
		for _, cache := range []bool{true, false} {
			option := at(func(o *valkey.ClientOption) { o.DisableCache = !cache }, s.Addr())
			expectServerError(expectAdvice(option, "READONLY", "is a replica", "its primary"))
		}
		_, err := ctxlock.NewRedlock(ctxlock.RedlockOption{Nodes: []valkey.ClientOption{at(nil, s.Addr())}})
		Expect(err).To(MatchError(ContainSubstring("is a replica")))
	})

	It("with TLS on one side only says on which", func() {
		c, err := lab.NewCerts()
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(c.Remove)
		expectAdvice(at(nil, server(lab.Config{TLS: c}).Addr()), "set ClientOption.TLSConfig")
		expectAdvice(at(func(o *valkey.ClientOption) {
			o.TLSConfig, o.Dialer.Timeout = c.Client(), 300*time.Millisecond
		}, server().Addr()), "leave out ClientOption.TLSConfig")
	})

	It("to one node of a cluster as if it were all is an error at once, and to all of it is not", func() {
		cluster, err := lab.StartCluster(3, 0, lab.Config{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(cluster.Stop)
		single := func(o *valkey.ClientOption) { o.ForceSingleClient = true }
		expectServerError(expectAdvice(at(single, cluster.Nodes[0].Addr()), "MOVED", "node of a cluster", "ForceSingleClient"))

		alone, err := lab.StartCluster(1, 0, lab.Config{}) // has all slots
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(alone.Stop)
		option := plain.option()
		option.ClientOption = at(single, alone.Nodes[0].Addr())
		_, release, err := locker(option).TryWithContext(bg(), unique())
		Expect(err).NotTo(HaveOccurred())
		release()
	})

	It("to sentinels as if they were servers, or the reverse, says so", func() {
		s, err := lab.StartSentinel(lab.Config{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(s.Stop)
		primary, err := s.Primary()
		Expect(err).NotTo(HaveOccurred())
		master := func(name string) func(o *valkey.ClientOption) {
			return func(o *valkey.ClientOption) { o.Sentinel.MasterSet = name }
		}
		expectAdvice(at(nil, s.Addrs()[0]), "set ClientOption.Sentinel.MasterSet")
		expectAdvice(at(nil, s.Addrs()...), "set ClientOption.Sentinel.MasterSet")
		expectAdvice(at(master(s.MasterSet), primary.Addr()), "not a sentinel")
		expectAdvice(at(master("other"), s.Addrs()...), `do not know ClientOption.Sentinel.MasterSet, "other"`)
	})
})
