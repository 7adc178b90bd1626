package ctxlock

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/store"
)

// Errors of connecting name the address and say what to do. What can be seen without a server is
// told before.

// checkAddresses tells what is wrong with the addresses of an option; field is what errors call it.
// Addresses that somebody else's code dials may be anything.
func checkAddresses(field string, o valkey.ClientOption, builder bool) error {
	if builder || o.DialCtxFn != nil || o.DialFn != nil {
		return nil
	}
	if len(o.InitAddress) == 0 {
		return fmt.Errorf("ctxlock: %s.InitAddress is empty (%w): it takes the address of a server, such as %q",
			field, valkey.ErrNoAddr, "127.0.0.1:6379")
	}
	for _, address := range o.InitAddress {
		if wrong := checkAddress(address); wrong != "" {
			return fmt.Errorf("ctxlock: %s.InitAddress has %s", field, wrong)
		}
	}
	return nil
}

// checkAddress says what is wrong with an address; empty if nothing is.
func checkAddress(address string) string {
	scheme, rest, isURL := strings.Cut(address, "://")
	switch {
	case strings.TrimSpace(address) != address:
		if isURL {
			return "a URL with white space around it, where host:port is wanted"
		}
		return fmt.Sprintf("%q: leave out the white space around it", address)
	case isURL && scheme == "unix":
		return `a URL where host:port is wanted: valkey.ParseURL makes a whole ClientOption of it`
	case isURL:
		host := "host:6379"
		if u, err := url.Parse(address); err == nil && u.Host != "" { // and no password, which errors must not show
			host = u.Host
		}
		return fmt.Sprintf("the URL %s://%s where host:port is wanted: write %q, or have valkey.ParseURL "+
			"make a whole ClientOption of it", scheme, host, host)
	case strings.Contains(address, ","):
		return fmt.Sprintf("%q: each address is an element of its own", address)
	case rest == "" && net.ParseIP(address) != nil:
		return fmt.Sprintf("%q without a port: did you mean %q?", address, net.JoinHostPort(address, "6379"))
	}
	if _, port, err := net.SplitHostPort(address); err == nil && port != "" {
		return ""
	}
	host := strings.TrimSuffix(address, ":")
	if strings.Contains(host, ":") {
		return fmt.Sprintf("%q, which is not host:port", address)
	}
	return fmt.Sprintf("%q without a port: did you mean %q?", address, net.JoinHostPort(host, "6379"))
}

// advised is an error of the client's with what it means, and what to do.
type advised struct {
	what, hint string // each may be empty
	err        error
}

func (e *advised) Error() string {
	text := strings.TrimRight(e.err.Error(), " .")
	if e.what != "" {
		text = e.what + " (" + text + ")"
	}
	if e.hint == "" {
		return text
	}
	return text + ": " + e.hint
}

// Unwrap gives the client's own error, unless it would be taken for the end of a caller's context:
// there is none.
func (e *advised) Unwrap() error {
	if isContextError(e.err) {
		return notTheCallers{e.err}
	}
	return e.err
}

// connecting adds the addresses to an error of connecting.
func connecting(o valkey.ClientOption, err error) error {
	if len(o.InitAddress) == 0 {
		return fmt.Errorf("ctxlock: connecting: %w", err)
	}
	return fmt.Errorf("ctxlock: connecting to %s: %w", strings.Join(o.InitAddress, ", "), err)
}

// explain says what an error of the client's means, that it could not be made with an option.
func explain(err error, o valkey.ClientOption) error {
	e := &advised{err: err}
	var plain tls.RecordHeaderError
	var dns *net.DNSError
	said := strings.ToLower(refusalOf(err))
	switch {
	case isContextError(err):
		timeout := o.Dialer.Timeout
		if timeout <= 0 {
			timeout = valkey.DefaultDialTimeout
		}
		e.what = fmt.Sprintf("no answer within %v", timeout)
		e.hint = "is the address right, does the server run, and is there a firewall?"
		if o.TLSConfig != nil {
			e.hint += " A server that does not speak TLS does not answer, either: " +
				"leave out ClientOption.TLSConfig then"
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		e.hint = "nothing listens there: does the server run, and on this port?"
	case errors.As(err, &dns):
		e.hint = "is the host's name right?"
	case errors.As(err, &plain):
		e.hint = "the server does not speak TLS on this port: leave out ClientOption.TLSConfig, " +
			"or use its TLS port"
	case said != "":
		e.hint = explainRefusal(said, o)
	case o.TLSConfig == nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		e.hint = "the server hung up: if it speaks TLS on this port, set ClientOption.TLSConfig"
	case strings.HasPrefix(strings.ToLower(err.Error()), "noperm"):
		e.hint = "the user needs +client|tracking, or ClientOption.DisableCache: " + permissionsPage
	}
	return e
}

// explainRefusal says what to do about what a server said when it was connected to.
func explainRefusal(said string, o valkey.ClientOption) string {
	has := func(text string) bool { return strings.Contains(said, text) }
	switch {
	case has("noauth"), has("authentication required"):
		return "the server wants a password: set ClientOption.Password, " +
			"and Username unless the user is \"default\""
	case has("wrongpass"), has("invalid password"):
		return "ClientOption.Username or Password is wrong, or the user is disabled"
	case has("without any password configured"), has("no password is set"):
		return "the server has no password: leave out ClientOption.Password"
	case has("cluster support disabled") && len(o.InitAddress) > 1:
		return "several addresses are those of one cluster, or of sentinels (with " +
			"ClientOption.Sentinel.MasterSet), and here is neither: give one address; " +
			"for independent servers there is NewRedlock"
	case has("unknown command 'sentinel'"), has("unknown command `sentinel`"):
		return "ClientOption.Sentinel.MasterSet is set, and the server is not a sentinel: " +
			"give the sentinels' addresses, or leave out MasterSet"
	case has("no such master"):
		return fmt.Sprintf("the sentinels do not know ClientOption.Sentinel.MasterSet, %q", o.Sentinel.MasterSet)
	case has("unknown command 'cluster'"), has("unknown command `cluster`"):
		return "sentinels, perhaps: set ClientOption.Sentinel.MasterSet"
	case has("noperm"), has("no permissions"):
		return "what it has to allow: " + permissionsPage
	}
	return ""
}

// permitted adds to a refusal what the user would have to be permitted. What other commands need,
// the server names.
func permitted(err error, prefix string) error {
	said := ""
	if err != nil {
		said = strings.ToLower(err.Error())
	}
	switch {
	case !strings.Contains(said, "noperm") && !strings.Contains(said, "no permissions"):
		return err
	case strings.Contains(said, "key"):
		return &advised{err: err, hint: fmt.Sprintf("the user needs the keys ~%s:*: %s", prefix, permissionsPage)}
	}
	return &advised{err: err, hint: "what it has to allow: " + permissionsPage}
}

// findPlace finds out whether the server is one on which locks can be kept, as far as the client
// does not see to that: no replica, no sentinel, and no node of a cluster behind a client that
// knows of one node. It makes no key.
func (s *valkeyStore) findPlace(unused string) question {
	return func(ctx context.Context) error {
		if s.client.Mode() != valkey.ClientModeStandalone {
			return nil
		}
		b, batch := s.client.B(), newBatch()
		batch.add(b.Arbitrary("HELLO").Build(), b.Arbitrary("SET").Keys(unused).Args("x", "XX", "PX", "1").Build())
		results := s.lanes[0].do(ctx, unused, batch)
		about, err := results[0], results[1].Error()
		if !isAnswer(about.Error()) {
			return about.Error()
		}
		if wrong := misplaced(err); wrong != nil {
			s.misplaced <- wrong
			return nil
		}
		fields, _ := about.AsMap()
		mode := fields["mode"]
		if name, _ := mode.ToString(); name != "cluster" || err != nil && !isAnswer(err) {
			return nil // a refusal that passes is waited out by whoever wants a lock
		}
		return s.findMoved(ctx)
	}
}

// findMoved looks at so many slots of a cluster that some are on other nodes, if there are any.
func (s *valkeyStore) findMoved(ctx context.Context) error {
	b, batch := s.client.B(), newBatch()
	for range 32 {
		batch.add(b.Pttl().Key(keyOf(s.inbox.prefix, 0, newID(1))).Build())
	}
	for _, result := range s.lanes[0].do(ctx, "", batch) {
		if wrong := misplaced(result.Error()); wrong != nil {
			s.misplaced <- wrong
			return nil
		}
	}
	return nil
}

// misplaced explains a refusal that says that locks cannot be kept where the client has connected
// to; nil if it does not.
func misplaced(err error) error {
	said := refusalOf(err)
	hint := ""
	switch {
	case strings.HasPrefix(said, "READONLY"):
		hint = "the server is a replica: give the address of its primary, or those of the sentinels " +
			"with ClientOption.Sentinel.MasterSet"
	case strings.HasPrefix(said, "MOVED "):
		hint = "the server is a node of a cluster, and the client knows of one node only: leave out " +
			"ClientOption.ForceSingleClient, and give the user +cluster|slots +cluster|shards"
	case strings.HasPrefix(strings.ToLower(generic(said)), "unknown command"):
		hint = "the server keeps no keys. If it is a sentinel, set ClientOption.Sentinel.MasterSet"
	default:
		return nil
	}
	return store.Permanent(&advised{err: err, hint: hint})
}

// awaitPlace waits, as long as the making of a Locker may take, for what the servers can do, and
// gives the error if the Locker is to be made elsewhere.
func (s *valkeyStore) awaitPlace() error {
	timer := time.NewTimer(time.Until(s.opened) + probeTime)
	defer timer.Stop()
	select {
	case err := <-s.misplaced:
		return err
	case <-s.found:
	case <-timer.C:
	case <-s.tracker.life.Done():
	}
	select {
	case err := <-s.misplaced:
		return err
	default:
		return nil
	}
}
