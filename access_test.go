package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// permissions is the smallest set of commands that a locker with these options needs on a server.
func (m mix) permissions(b lab.Binary) []string {
	needs := []string{"set", "pttl", "del"}
	if !m.polling {
		needs = append(needs, "client|tracking")
	}
	if !m.setPX {
		needs = append(needs, "time")
	}
	switch {
	case b.AtLeast("valkey", 9):
		return append(needs, "delifeq")
	case b.AtLeast("redis", 8, 4):
		return append(needs, "delex")
	}
	needs = append(needs, "evalsha", "eval", "get")
	if b.AtLeast("valkey", 8, 1) {
		return needs // it extends with a command, and needs the script to release only
	}
	if !m.setPX {
		needs = append(needs, "pexpireat")
	}
	return append(needs, "pexpire")
}

const (
	user     = "locker"
	password = "secret"
)

// allow makes a user that may run these commands on the keys of locks, and nothing else.
func allow(s *lab.Server, commands []string) error {
	rule := []string{"ACL", "SETUSER", user, "reset", "on", ">" + password, "~valkeylock:*"}
	for _, command := range commands {
		rule = append(rule, "+"+command)
	}
	_, err := s.Do(rule...)
	return err
}

// asUser is an option for that user.
func asUser(m mix, address string) ctxlock.LockerOption {
	option := m.option(address)
	option.ClientOption.Username, option.ClientOption.Password = user, password
	return option
}

// exercise has a lock do all that locks do, as that user, and gives the first thing that does not go well.
func exercise(s *lab.Server, m mix) error {
	const name = "x"
	option := asUser(m, s.Addr())
	ctx, end := context.WithTimeout(context.Background(), 20*time.Second)
	defer end()
	link, err := lab.NewProxy(s.Addr())
	if err != nil {
		return err
	}
	defer link.Close()
	var inServersTime atomic.Bool
	link.OnCommand(func(command []string) lab.Action {
		if slices.Contains(command, "PXAT") || slices.Contains(command, "PEXPIREAT") {
			inServersTime.Store(true)
		}
		return lab.Pass
	})
	option.ClientOption.InitAddress = []string{link.Addr()}
	a, err := ctxlock.NewLocker(option)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer a.Close()
	b, err := ctxlock.NewLocker(option)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer b.Close()

	first, cancel, err := a.WithContext(ctx, name)
	defer cancel()
	if err != nil {
		return fmt.Errorf("acquiring: %w", err)
	}
	if _, _, err := b.TryWithContext(ctx, name); !errors.Is(err, ctxlock.ErrNotLocked) {
		return fmt.Errorf("trying what another holds: %w", err)
	}
	next := make(chan error, 1)
	var second context.Context
	var release context.CancelFunc
	var work sync.WaitGroup
	defer work.Wait()
	defer end()
	var got time.Time
	work.Go(func() {
		var err error
		second, release, err = b.WithContext(ctx, name)
		got = time.Now()
		next <- err
	})
	if err := lives(first, 3*option.KeyValidity/2); err != nil {
		return fmt.Errorf("holding: %w", err)
	}
	link.Cut()
	if err := lives(first, 3*option.KeyValidity/2); err != nil {
		return fmt.Errorf("holding over a lost connection: %w", err)
	}
	gave := time.Now()
	cancel()
	if err := <-next; err != nil {
		return fmt.Errorf("waiting: %w", err)
	}
	defer release()
	if took := got.Sub(gave); took > option.KeyValidity/2 && !m.polling {
		return fmt.Errorf("waiting: told of the release after %v only", took)
	}
	_, cancel, err = a.ForceWithContext(ctx, name)
	defer cancel()
	if err != nil {
		return fmt.Errorf("forcing: %w", err)
	}
	select {
	case <-second.Done():
	case <-time.After(option.KeyValidity):
		return errors.New("forcing: the other was not told")
	}
	cancel()
	if !inServersTime.Load() && !m.setPX {
		return errors.New("no expiry was ever set in the server's time")
	}
	if n, err := s.Do("DBSIZE"); err != nil || n != int64(0) {
		return fmt.Errorf("releasing: keys were left (%w)", err)
	}
	return nil
}

// lives is nil if a context lives for so long.
func lives(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

var _ = Describe("Access", Label("control"), func() {
	It("is enough with the smallest ACL, and not enough with one permission less", func() {
		var work sync.WaitGroup
		// All together, because it takes its time. Each has a server of its own, because scripts are known to a server, not to a user.
		try := func(m mix, commands []string, expect func(error)) {
			s := server()
			work.Go(func() {
				defer GinkgoRecover()
				Expect(allow(s, commands)).To(Succeed())
				expect(exercise(s, m))
			})
		}
		binary := server().Binary
		for _, m := range []mix{{majority: 1}, {majority: 1, noLoop: true}, {majority: 1, polling: true}, {majority: 1, setPX: true}} {
			try(m, m.permissions(binary), func(err error) { Expect(err).NotTo(HaveOccurred(), m.String()) })
		}
		all := plain.permissions(binary)
		for i, without := range all {
			try(plain, slices.Delete(slices.Clone(all), i, i+1), func(err error) {
				GinkgoWriter.Printf("without %s: %v\n", without, err)
				Expect(err).To(HaveOccurred(), without+" is not needed")
			})
		}
		work.Wait()
	})

	It("that is missing is told at once, by the server's own error", func() {
		s, name := server(), unique()
		Expect(allow(s, []string{"client|tracking"})).To(Succeed())
		l := locker(asUser(plain, s.Addr()))
		for _, c := range calls {
			start := time.Now()
			ctx, cancel, err := c.take(l, bg(), name)
			expectFailed(ctx, cancel, err)
			Expect(err).To(MatchError(ContainSubstring("NOPERM")), c.name)
			Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked), c.name)
			expectServerError(err)
			Expect(time.Since(start)).To(BeNumerically("<", 5*time.Second), c.name)
		}
	})

	It("that is missing for keys under another prefix is told at once", func() {
		s := server()
		Expect(allow(s, plain.permissions(s.Binary))).To(Succeed())
		option := asUser(plain, s.Addr())
		option.KeyPrefix = "elsewhere"
		_, _, err := locker(option).WithContext(bg(), unique())
		Expect(err).To(MatchError(ContainSubstring("NOPERM")))
	})

	It("that is taken away while a lock is held ends it in time, and the cause has the server's error", func() {
		s, name := server(), unique()
		Expect(allow(s, plain.permissions(s.Binary))).To(Succeed())
		l := locker(asUser(plain, s.Addr()))
		ctx, cancel, err := l.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		defer cancel()
		Expect(s.Do("ACL", "SETUSER", user, "-set", "-pexpireat", "-pexpire")).To(Equal("OK"))
		Eventually(ctx.Done(), 2*validity).Should(BeClosed())
		var lost *ctxlock.LostError
		Expect(errors.As(context.Cause(ctx), &lost)).To(BeTrue())
		Expect(lost.Reason).To(Equal(ctxlock.Expired))
		expectServerError(lost)
	})

	It("with a wrong password is refused by NewLocker", func() {
		s := server(lab.Config{Password: password})
		option := plain.option(s.Addr())
		option.ClientOption.Password = "guess"
		_, err := ctxlock.NewLocker(option)
		Expect(err).To(MatchError(ContainSubstring("WRONGPASS")))
		option.ClientOption.Password = password
		_, cancel, err := locker(option).WithContext(bg(), unique())
		Expect(err).NotTo(HaveOccurred())
		cancel()
	})
})

// expectServerError checks that the client's own error can be had from one.
func expectServerError(err error) {
	GinkgoHelper()
	var refusal *valkey.ValkeyError
	Expect(errors.As(err, &refusal)).To(BeTrue(), fmt.Sprint(err))
}

var _ = Describe("TLS", Label("control"), func() {
	certs := func() *lab.Certs {
		c, err := lab.NewCerts()
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(c.Remove)
		return c
	}

	// handOver has a lock pass from one locker to another.
	handOver := func(option ctxlock.LockerOption) {
		GinkgoHelper()
		a, b, name := locker(option), locker(option), unique()
		ctx, cancel, err := a.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		next := make(chan error, 1)
		go func() {
			_, release, err := b.WithContext(bg(), name)
			release()
			next <- err
		}()
		Consistently(next, 200*time.Millisecond).ShouldNot(Receive())
		Expect(ctx.Err()).NotTo(HaveOccurred())
		cancel()
		Eventually(next, validity).Should(Receive(BeNil()))
	}

	It("carries locks", func() {
		c := certs()
		option := mix{majority: 2}.option(server(lab.Config{TLS: c}).Addr())
		option.ClientOption.TLSConfig = c.ClientWithoutCert()
		handOver(option)
	})

	It("carries locks where the server demands a certificate, and does without one", func() {
		c := certs()
		s := server(lab.Config{TLS: c, Args: []string{"--tls-auth-clients", "yes"}})
		option := mix{majority: 1, polling: true}.option(s.Addr())
		option.ClientOption.TLSConfig = c.ClientWithoutCert()
		_, err := ctxlock.NewLocker(option)
		Expect(err).To(HaveOccurred())
		option.ClientOption.TLSConfig = c.Client()
		handOver(option)
	})

	It("with a server that nobody vouches for is refused by NewLocker", func() {
		option := plain.option(server(lab.Config{TLS: certs()}).Addr())
		option.ClientOption.TLSConfig = certs().Client()
		_, err := ctxlock.NewLocker(option)
		Expect(err).To(MatchError(ContainSubstring("certificate")))
	})
})

var _ = Describe("A key of another type", func() {
	for _, m := range mixes {
		It("is told at once by all calls and left as it is ("+m.String()+")", func() {
			s, name := server(), unique()
			l := locker(m.option(s.Addr()))
			for i := range int(2*m.majority - 1) {
				Expect(s.Do("HSET", key(i, name), "field", "value")).To(BeEquivalentTo(1))
			}
			for _, c := range calls[:2] {
				ctx, cancel, err := c.take(l, bg(), name)
				expectFailed(ctx, cancel, err)
				Expect(err).To(MatchError(ContainSubstring("WRONGTYPE")), c.name)
				Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked), c.name)
				expectServerError(err)
				Expect(s.Do("HGET", key(0, name), "field")).To(Equal("value"), c.name)
			}
			_, cancel, err := l.ForceWithContext(bg(), name)
			Expect(err).To(MatchError(ContainSubstring("WRONGTYPE")))
			cancel()
			Expect(s.Do("HGET", key(0, name), "field")).To(Equal("value"))
		})
	}
})

var _ = Describe("A server that refuses for a while", Label("control"), func() {
	// trouble is something that passes.
	type trouble struct {
		name, code string
		// begin has the server refuse, and gives what ends that, beside the address of what refuses.
		begin func(s *lab.Server, r *relay) (mend func())
	}
	do := func(s *lab.Server, command ...string) {
		GinkgoHelper()
		_, err := s.Do(command...)
		Expect(err).NotTo(HaveOccurred())
	}
	troubles := []trouble{
		{"because it is a replica", "READONLY", func(s *lab.Server, _ *relay) func() {
			host, port, _ := strings.Cut(server().Addr(), ":")
			do(s, "REPLICAOF", host, port)
			return func() { do(s, "REPLICAOF", "NO", "ONE") }
		}},
		{"because it is out of memory", "OOM", func(s *lab.Server, _ *relay) func() {
			do(s, "SET", "filler", strings.Repeat("x", 2<<20))
			do(s, "CONFIG", "SET", "maxmemory", "1mb")
			return func() { do(s, "CONFIG", "SET", "maxmemory", "0") }
		}},
		{"because it cannot write to its disk", "MISCONF", func(_ *lab.Server, r *relay) func() {
			return refuse(r, "MISCONF Errors writing to the AOF file: No space left on device")
		}},
		{"because it has too few replicas", "NOREPLICAS", func(s *lab.Server, _ *relay) func() {
			do(s, "CONFIG", "SET", "min-replicas-to-write", "1")
			return func() { do(s, "CONFIG", "SET", "min-replicas-to-write", "0") }
		}},
		{"because it is loading", "LOADING", func(_ *lab.Server, r *relay) func() {
			return refuse(r, "LOADING Redis is loading the dataset in memory")
		}},
		{"because a script keeps it busy", "BUSY", func(_ *lab.Server, r *relay) func() {
			return refuse(r, "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.")
		}},
		{"because the primary is gone", "MASTERDOWN", func(_ *lab.Server, r *relay) func() {
			return refuse(r, "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
		}},
		{"because the cluster is down", "CLUSTERDOWN", func(_ *lab.Server, r *relay) func() {
			return refuse(r, "CLUSTERDOWN The cluster is down")
		}},
	}
	for _, trouble := range troubles {
		It(trouble.name+" has one who waits wait, and told by the others", func() {
			s, name := server(), unique()
			r := newRelay(s)
			l := locker(plain.option(r.address()))
			mend := trouble.begin(s, r)

			for _, c := range calls[1:] {
				ctx, cancel, err := c.take(l, bg(), name)
				expectFailed(ctx, cancel, err)
				Expect(err).To(MatchError(ContainSubstring(trouble.code)), c.name)
				Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked), c.name)
				expectServerError(err)
			}

			short, end := context.WithTimeout(bg(), 100*time.Millisecond)
			defer end()
			ctx, cancel, err := l.WithContext(short, name)
			expectFailed(ctx, cancel, err)
			Expect(err).To(And(MatchError(context.DeadlineExceeded), MatchError(ContainSubstring(trouble.code))))
			Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked))
			expectServerError(err)

			in := make(chan error, 1)
			go func() {
				_, release, err := l.WithContext(bg(), name)
				release()
				in <- err
			}()
			Consistently(in, 200*time.Millisecond).ShouldNot(Receive())
			mend()
			Eventually(in, 5*time.Second).Should(Receive(BeNil()))
		})
	}

	It("because it is out of memory lets those who hold go on holding, and release", func() {
		s, name := server(), unique()
		a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
		ctx, cancel, err := a.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		do(s, "SET", "filler", strings.Repeat("x", 2<<20))
		do(s, "CONFIG", "SET", "maxmemory", "1mb")
		Consistently(ctx.Err, 3*validity/2).ShouldNot(HaveOccurred())
		Expect(pttl(s, key(0, name))).To(BeNumerically(">", 0))
		cancel()
		Expect(keysOn(s)).To(ConsistOf("filler"))
		do(s, "CONFIG", "SET", "maxmemory", "0")
		_, cancel, err = b.TryWithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		cancel()
	})

	It("because all its places for clients are taken has one who waits wait", func() {
		s, name := server(), unique()
		a := locker(plain.option(s.Addr()))
		p := proxy(s)
		b := locker(plain.option(p.Addr()))
		_, release, err := a.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		in := make(chan error, 1)
		go func() {
			_, cancel, err := b.WithContext(bg(), name)
			cancel()
			in <- err
		}()
		Consistently(in, 50*time.Millisecond).ShouldNot(Receive())
		do(s, "CONFIG", "SET", "maxclients", "2") // the first locker, and this connection
		p.Cut()
		Eventually(func() (map[string]string, error) { return s.Info("stats") }, 5*time.Second).
			Should(HaveKeyWithValue("rejected_connections", Not(Equal("0"))), "the spec proves nothing")
		Consistently(in, 300*time.Millisecond).ShouldNot(Receive())
		do(s, "CONFIG", "SET", "maxclients", "100")
		release()
		Eventually(in, 5*time.Second).Should(Receive(BeNil()))
	})
})

// refuse has a relay refuse whatever is about keys, until the function that it gives is called.
func refuse(r *relay, with string) (mend func()) {
	r.say(func(command []string) string {
		switch strings.ToUpper(command[0]) {
		case "HELLO", "CLIENT", "PING", "CLUSTER":
			return ""
		}
		return "-" + with + "\r\n"
	})
	return r.passOn
}

var _ = Describe("A server that turns out to be older than it was", func() {
	// older is what servers before these commands say of them.
	older := func(command []string) string {
		switch verb := strings.ToUpper(command[0]); {
		case verb == "SET" && slices.Contains(command, "IFEQ"):
			return "-ERR syntax error\r\n"
		case verb == "SET" && slices.Contains(command, "NX") && slices.Contains(command, "GET"): // before Redis 7.0
			return "-ERR syntax error\r\n"
		case verb == "DELIFEQ", verb == "DELEX":
			return "-ERR unknown command '" + verb + "', with args beginning with: 'valkeylock:0:x' 'y' \r\n"
		}
		return ""
	}

	It("is asked in a way that it knows, while a lock is held", func() {
		s, name := server(), unique()
		r := newRelay(s)
		l := locker(plain.option(r.address()))
		ctx, cancel, err := l.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		r.say(older)
		Consistently(ctx.Err, 3*validity/2).ShouldNot(HaveOccurred())
		cancel()
		Expect(keysOn(s)).To(BeEmpty())
	})

	for _, c := range calls {
		It("is asked in a way that it knows, before a lock is taken ("+c.name+")", func() {
			s, name := server(), unique()
			r := newRelay(s)
			a, b := locker(plain.option(r.address())), locker(plain.option(r.address()))
			r.say(older)
			_, cancel, err := c.take(a, bg(), name)
			Expect(err).NotTo(HaveOccurred())
			_, _, err = b.TryWithContext(bg(), name)
			Expect(err).To(MatchError(ctxlock.ErrNotLocked))
			cancel()
			Expect(keysOn(s)).To(BeEmpty())
		})
	}
})
