package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// within is a context of a call that is to be cut short.
func within(d time.Duration) context.Context {
	GinkgoHelper()
	ctx, end := context.WithTimeout(context.Background(), d)
	DeferCleanup(func() { end() })
	return ctx
}

// listError is the error that ends a List, if any does.
func listError(ctx context.Context, l ctxlock.Locker) (err error) {
	for _, err = range l.List(ctx) {
	}
	return err
}

var _ = Describe("No answer in time", Label("control"), func() {
	It("is found in the errors of all calls", func() {
		s, name, held := server(), unique(), unique()
		p := proxy(s)
		option := plain.option(p.Addr())
		option.KeyValidity, option.TryNextAfter = 4*time.Second, 200*ms
		l := locker(option)
		ctx, lock := handle(l, held, ctxlock.AcquireOption{})
		_, other := handle(l, unique(), ctxlock.AcquireOption{})
		p.Stall(lab.Both)
		for _, c := range calls[1:] {
			_, _, err := c.take(l, bg(), name)
			Expect(err).To(MatchError(ctxlock.ErrNoAnswer), c.name)
			_, _, err = c.take(l, within(50*ms), name)
			Expect(err).To(And(MatchError(ctxlock.ErrNoAnswer), MatchError(context.DeadlineExceeded)), c.name)
		}
		_, _, err := l.WithContext(within(300*ms), name)
		Expect(err).To(And(MatchError(ctxlock.ErrNoAnswer), MatchError(context.DeadlineExceeded)))
		_, _, err = l.AcquireAll(bg(), []string{name, name + " too"}, ctxlock.AcquireOption{Mode: ctxlock.Try})
		Expect(err).To(MatchError(ctxlock.ErrNoAnswer))
		for _, ctx := range []func() context.Context{bg, func() context.Context { return within(50 * ms) }} {
			_, err = l.Look(ctx(), name)
			Expect(err).To(MatchError(ctxlock.ErrNoAnswer))
			Expect(listError(ctx(), l)).To(MatchError(ctxlock.ErrNoAnswer))
			_, err = lock.TTL(ctx())
			Expect(err).To(MatchError(ctxlock.ErrNoAnswer))
		}
		Expect(lock.Extend(within(50*ms), 0)).To(MatchError(ctxlock.ErrNoAnswer))
		err = other.Release(bg())
		var untold *ctxlock.ReleaseError
		Expect(errors.As(err, &untold)).To(BeTrue(), "%v", err)
		Expect(err).To(MatchError(ctxlock.ErrNoAnswer))
		var lost *ctxlock.LostError
		Expect(errors.As(end(ctx, 4*time.Second+soon), &lost)).To(BeTrue())
		Expect(lost).To(MatchError(ctxlock.ErrNoAnswer))
		Expect(lost.Err).To(MatchError(ctxlock.ErrNoAnswer))
		Expect(ctxlock.IsPermanent(lost)).To(BeFalse())
	})

	It("is found for each of independent nodes", func() {
		d := independent(3)
		option := d.option()
		option.KeyValidity, option.TryNextAfter = 4*time.Second, 200*ms
		l := d.redlockOnAll(option)
		_, lock := handle(l, unique(), ctxlock.AcquireOption{})
		d.links[0].Stall(lab.Both)
		d.links[1].Stall(lab.Both)
		_, _, err := l.TryWithContext(bg(), unique())
		check := func(err error) {
			GinkgoHelper()
			var quorum *ctxlock.QuorumError
			Expect(errors.As(err, &quorum)).To(BeTrue(), "%v", err)
			Expect(err).To(MatchError(ctxlock.ErrNoAnswer))
			Expect(ctxlock.IsPermanent(err)).To(BeFalse())
			for _, node := range quorum.Nodes[:2] {
				Expect(node.Outcome).To(Equal(ctxlock.NodeLate))
				Expect(node.Err).To(MatchError(ctxlock.ErrNoAnswer))
			}
		}
		check(err)
		_, err = l.Look(bg(), lock.Name())
		check(err)
		check(lock.Extend(bg(), 0))
	})
})

var _ = Describe("IsPermanent", func() {
	It("tells errors that waiting cannot mend from those that it can", func() {
		s, name := server(), unique()
		l := locker(plain.option(s.Addr()))
		Expect(s.Do("RPUSH", firstKey(name), "a list")).To(BeEquivalentTo(1))
		_, _, wrongType := l.TryWithContext(bg(), name)
		_, _, noName := l.TryWithContext(bg(), "")
		_, _, noContext := l.TryWithContext(noContext, "x")
		_, _, noNames := l.AcquireAll(bg(), nil, ctxlock.AcquireOption{})
		_, _, tooShort := l.Acquire(bg(), name, ctxlock.AcquireOption{Validity: 30})
		_, _, badValue := l.Acquire(bg(), unique(), ctxlock.AcquireOption{ValueFunc: func() (string, error) { return "", nil }})
		_, badOption := ctxlock.NewLocker(ctxlock.LockerOption{KeyMajority: -1})
		_, badNodes := ctxlock.NewRedlock(ctxlock.RedlockOption{})
		_, lock := handle(l, unique(), ctxlock.AcquireOption{})
		badExtension := lock.Extend(bg(), 30)
		for what, err := range map[string]error{
			"a key of another type": wrongType, "an empty name": noName, "no context": noContext, "no names": noNames,
			"a validity without its unit": tooShort, "a value that is none": badValue, "an option": badOption, "no nodes": badNodes,
			"an extension without its unit": badExtension, "a locker that is closed": ctxlock.ErrLockerClosed,
			"one that is wrapped": fmt.Errorf("on Monday: %w", wrongType),
		} {
			Expect(err).To(HaveOccurred(), what)
			Expect(ctxlock.IsPermanent(err)).To(BeTrue(), "%s: %v", what, err)
		}

		_, _, taken := locker(plain.option(s.Addr())).TryWithContext(bg(), lock.Name())
		Expect(taken).To(MatchError(ctxlock.ErrNotLocked))
		ended, end := context.WithCancel(bg())
		end()
		_, _, cancelled := l.TryWithContext(ended, name)
		for what, err := range map[string]error{
			"held by another": taken, "a context that has ended": cancelled, "nothing": nil, "no answer": ctxlock.ErrNoAnswer,
			"a loss": &ctxlock.LostError{Reason: ctxlock.Expired}, "released": ctxlock.ErrReleased,
		} {
			Expect(ctxlock.IsPermanent(err)).To(BeFalse(), "%s: %v", what, err)
		}
	})
})

var _ = Describe("An error of permissions", Label("control"), func() {
	// missing is the error of a call of a user who may run these commands on the keys of these patterns.
	missing := func(commands []string, keys string, ask func(ctxlock.Locker) error) error {
		GinkgoHelper()
		s := server()
		Expect(allow(s, commands)).To(Succeed())
		_, err := s.Do("ACL", "SETUSER", user, "resetkeys", keys)
		Expect(err).NotTo(HaveOccurred())
		return ask(locker(asUser(plain, s.Addr())))
	}
	const pointer = "https://github.com/ctxlock/ctxlock#permissions"

	It("names the command, or the key, that was asked for, and where to find what is needed", func() {
		binary := server().Binary
		all := append(plain.permissions(binary), "get", "eval", "evalsha", "pexpire", "pexpireat")
		try := func(l ctxlock.Locker) error {
			_, _, err := l.TryWithContext(bg(), "x")
			return err
		}
		for _, c := range []struct {
			commands []string
			keys     string
			ask      func(ctxlock.Locker) error
			says     string
		}{
			{[]string{"client|tracking"}, "~*", try, `SET "valkeylock:0:x"`},
			{all, "~elsewhere:*", try, `SET "valkeylock:0:x"`},
			{[]string{"client|tracking", "set"}, "~*", try, `PTTL "valkeylock:0:x"`},
			{all, "~valkeylock:0:*", func(l ctxlock.Locker) error {
				_, _, err := l.Acquire(bg(), "x", ctxlock.AcquireOption{Mode: ctxlock.Try, Fencing: true})
				return err
			}, `EVALSHA "valkeylock:0:x" "valkeylock:T:{valkeylock:0:x}"`},
			{[]string{"client|tracking", "pttl"}, "~*", func(l ctxlock.Locker) error {
				_, err := l.Look(bg(), "x")
				return err
			}, `GET "valkeylock:0:x"`},
			{all, "~*", func(l ctxlock.Locker) error { return listError(bg(), l) }, "SCAN"},
			{all, "~*", func(l ctxlock.Locker) error {
				_, _, err := l.Acquire(bg(), "x", ctxlock.AcquireOption{Mode: ctxlock.Try, Replicas: 1})
				return err
			}, "WAIT"},
			{[]string{"client|tracking"}, "~*", func(l ctxlock.Locker) error {
				_, _, err := l.Acquire(bg(), "x", ctxlock.AcquireOption{Mode: ctxlock.Try, Replicas: 1})
				return err
			}, `SET "valkeylock:r:{`},
			{all[1:], "~*", func(l ctxlock.Locker) error { // all but SET, which only the script runs
				_, _, err := l.Acquire(bg(), "x", ctxlock.AcquireOption{Mode: ctxlock.Try, Fencing: true})
				return err
			}, `EVALSHA "valkeylock:0:x"`},
		} {
			err := missing(c.commands, c.keys, c.ask)
			Expect(err).To(MatchError(And(ContainSubstring("asked for "+c.says), ContainSubstring(pointer))), c.says)
			expectServerError(err)
			Expect(ctxlock.IsPermanent(err)).To(BeTrue(), c.says)
		}
	})

	It("is that of a lock which could no longer be extended, too", func() {
		s, name := server(), unique()
		Expect(allow(s, append(plain.permissions(s.Binary), "get"))).To(Succeed())
		ctx, lock := handle(locker(asUser(plain, s.Addr())), name, ctxlock.AcquireOption{})
		Expect(s.Do("ACL", "SETUSER", user, "-set", "-pexpireat", "-pexpire")).To(Equal("OK"))
		Expect(lock.Extend(bg(), 0)).To(MatchError(And(ContainSubstring(firstKey(name)), ContainSubstring(pointer))))
		var lost *ctxlock.LostError
		Expect(errors.As(end(ctx, 2*validity), &lost)).To(BeTrue())
		Expect(lost.Err).To(MatchError(And(ContainSubstring(firstKey(name)), ContainSubstring(pointer))))
	})
})

var _ = Describe("A lock that another caller of the same Locker holds", func() {
	const here = "not locked: held by another caller of this Locker"

	forEachMix("is told from one that is held elsewhere", func(m mix) {
		s, name := server(), unique()
		a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
		own := func() (string, error) { return "mine " + unique(), nil }
		for _, option := range []ctxlock.AcquireOption{{}, {Value: "x", Metadata: "y"}, {ValueFunc: own, Metadata: "z"}} {
			_, lock := handle(a, name, option)
			_, _, err := a.TryWithContext(bg(), name)
			Expect(err).To(And(MatchError(ctxlock.ErrNotLocked), MatchError(HaveSuffix(here))))
			_, _, err = a.WithContext(within(100*ms), name)
			Expect(err).To(And(MatchError(ctxlock.ErrNotLocked), MatchError(ContainSubstring(here))))
			_, _, err = a.AcquireAll(bg(), []string{unique(), name}, ctxlock.AcquireOption{Mode: ctxlock.Try})
			Expect(err).To(And(MatchError(ctxlock.ErrNotLocked), MatchError(HaveSuffix(here))))
			for _, how := range []taking{b.TryWithContext, b.WithContext} {
				_, _, err = how(within(100*ms), name)
				Expect(err).To(And(MatchError(ctxlock.ErrNotLocked), MatchError(ContainSubstring("held by another"))))
				Expect(err).NotTo(MatchError(ContainSubstring("this Locker")))
			}
			Expect(lock.Release(bg())).To(Succeed())
		}
	})

	It("is told from memory, too", func() {
		s, name := server(), unique()
		l, err := ctxlock.New(ctxlock.Options{LockerOption: plain.option(s.Addr()), Contention: ctxlock.Contention{TryFromMemory: true}})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(l.Close)
		handle(l, name, ctxlock.AcquireOption{})
		_, _, err = l.TryWithContext(bg(), name)
		Expect(err).To(And(MatchError(ctxlock.ErrNotLocked), MatchError(HaveSuffix(here))))
	})
})

var _ = Describe("The error of a wait that ends", Label("control"), func() {
	// refusing has a relay say something in place of a server that no longer does what it should.
	refusing := func(reply string) func(*relay) {
		return func(r *relay) {
			r.say(func(command []string) string {
				switch strings.ToUpper(command[0]) {
				case "SET", "EVAL", "EVALSHA":
					return "-" + reply + "\r\n"
				}
				return ""
			})
		}
	}
	for _, c := range []struct {
		what  string
		spoil func(*relay)
		says  string
	}{
		{"is read-only", refusing("READONLY You can't write against a read only replica."), "READONLY"},
		{"refuses writes", refusing("MISCONF Errors writing to disk"), "MISCONF"},
		{"is gone", func(r *relay) { r.stop() }, "connect"},
	} {
		It("says for how long attempts have failed, and with what, when the server "+c.what, func() {
			for _, held := range []bool{false, true} {
				if held && c.says != "connect" {
					continue // who waits for a holder writes nothing
				}
				s, name := server(), unique()
				r := newRelay(s)
				b := locker(plain.option(r.address()))
				if held {
					first := take(bg(), locker(plain.option(s.Addr())).WithContext, name)
					defer first.release()
				} else {
					c.spoil(r)
				}
				ctx, stop := context.WithTimeout(bg(), 2*time.Second)
				defer stop()
				front := begin(ctx, b.WithContext, name, nil)
				behind := begin(ctx, b.WithContext, name, nil)
				if held {
					Consistently(front.done, 300*ms).ShouldNot(BeClosed())
					c.spoil(r)
				}
				for _, waiter := range []*pending{front, behind} {
					err := waiter.fails(2*time.Second + soon)
					Expect(err).To(And(MatchError(context.DeadlineExceeded), MatchError(ContainSubstring(c.says))))
					Expect(err.Error()).To(MatchRegexp(`^ctxlock: "[^"]*": context deadline exceeded \(last attempt: [^"]*; failing for [\d.]+s, \d+ attempts\)$`))
					Expect(ctxlock.IsPermanent(err)).To(BeFalse())
				}
			}
		})
	}

	It("says it when a retry policy gives up, too, and not when the server was met again", func() {
		s, name := server(), unique()
		r := newRelay(s)
		b := locker(plain.option(r.address()))
		refusing("MISCONF Errors writing to disk")(r)
		start := time.Now()
		limited := ctxlock.LimitRetries(3, ctxlock.RetryFixed(100*ms))
		_, _, err := b.Acquire(bg(), name, ctxlock.AcquireOption{Retry: limited})
		Expect(time.Since(start)).To(BeNumerically(">=", 300*ms))
		Expect(err).To(MatchError(MatchRegexp(`MISCONF Errors writing to disk; failing for .*s, \d+ attempts$`)))
		expectServerError(err)

		take(bg(), locker(plain.option(s.Addr())).WithContext, name)
		_, _, err = b.Acquire(bg(), name, ctxlock.AcquireOption{Retry: ctxlock.RetryFunc(func(a ctxlock.Attempt) ctxlock.Retry {
			if a.Number == 2 {
				r.passOn()
			}
			return ctxlock.Retry{Again: a.Number < 4, After: 50 * ms}
		})})
		Expect(err).To(MatchError(ctxlock.ErrNotLocked))
		Expect(err).NotTo(MatchError(ContainSubstring("failing")))
	})
})

var _ = Describe("The error of a release", Label("control"), func() {
	It("gives the reason of a node that has one before the silence of others", func() {
		d := independent(3)
		links := d.relinked(3)
		option := links.option()
		option.KeyValidity = 4 * time.Second
		l := links.redlockOnAll(option)
		_, lock := handle(l, unique(), ctxlock.AcquireOption{})
		for i := range 2 {
			Expect(d.servers[i].Do("ACL", "SETUSER", "default", "-@write", "-@scripting")).To(Equal("OK"))
		}
		links.links[2].Stall(lab.Both)
		err := lock.Release(bg())
		var untold *ctxlock.ReleaseError
		Expect(errors.As(err, &untold)).To(BeTrue(), "%v", err)
		Expect(untold.Err).To(MatchError(ContainSubstring("asked for")))
		Expect(ctxlock.IsPermanent(err)).To(BeTrue())
	})
})
