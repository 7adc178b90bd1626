package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

// etcds is etcd's mutex.
func etcds() Contender {
	return Contender{
		Library: etcdLibrary, Module: "go.etcd.io/etcd/client/v3", Fences: true,
		Note: "concurrency.Mutex; a session for each that wants one name, otherwise one a client, and a new one when one has ended. " +
			"A holder goes by its session's Done, and repeats an Unlock that failed while the session lives.",
		Own:  under(etcdPrefix),
		Open: openEtcd,
	}
}

const (
	etcdPrefix = "/lock/"
	// etcdPatience is what the client's documentation has for connecting.
	etcdPatience = 5 * time.Second
	// etcdAgain is the pause before an Unlock is repeated.
	etcdAgain = 50 * time.Millisecond
)

func openEtcd(at Place) (Locker, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: at.Servers, DialTimeout: etcdPatience, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	l := &etcdLocker{client: c, ttl: int((at.Validity + time.Second - 1) / time.Second)}
	ctx, cancel := context.WithTimeout(context.Background(), etcdPatience)
	defer cancel()
	place, _ := l.sit("")
	defer l.rise(place, "")
	if _, err := l.session(ctx, place); err != nil { // connects
		l.Close()
		return nil, err
	}
	return l, nil
}

// etcdLocker is one client. A session cannot exclude itself, so those who want one name at once have a session each; for different names
// they share one.
type etcdLocker struct {
	client *clientv3.Client
	ttl    int // seconds
	calls  sync.WaitGroup

	mu     sync.Mutex // for what follows
	closed bool       // no call starts any more
	seats  []*seat
}

// seat is one session after the other.
type seat struct {
	turn chan struct{} // has an element while somebody makes a session

	// Under the locker's mutex.
	present *session        // nil before the first
	taken   map[string]bool // the names that somebody locks or waits for with it
}

// session is one with a limit to its requests.
type session struct {
	*concurrency.Session
	cut context.CancelFunc // ends it, and what it asks of the server
}

func (s *session) ended() bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// sit takes the first seat where nobody wants the name.
func (l *etcdLocker) sit(name string) (*seat, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	for _, s := range l.seats {
		if !s.taken[name] {
			s.taken[name] = true
			return s, nil
		}
	}
	s := &seat{turn: make(chan struct{}, 1), taken: map[string]bool{name: true}}
	l.seats = append(l.seats, s)
	return s, nil
}

// rise leaves the seat to others.
func (l *etcdLocker) rise(s *seat, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(s.taken, name)
}

// session gives the seat's session, a new one if there is none that lives.
func (l *etcdLocker) session(ctx context.Context, at *seat) (*session, error) {
	select {
	case at.turn <- struct{}{}:
		defer func() { <-at.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.mu.Lock()
	present := at.present
	l.mu.Unlock()
	if present != nil && !present.ended() {
		return present, nil
	}
	s, err := l.newSession(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		s.cut()
		return nil, errClosed
	}
	if present != nil {
		present.cut()
	}
	at.present = s
	return s, nil
}

// newSession makes one that outlives ctx: that is for the making only.
func (l *etcdLocker) newSession(ctx context.Context) (*session, error) {
	life, cut := context.WithCancel(l.client.Ctx())
	stop := context.AfterFunc(ctx, cut)
	s, err := concurrency.NewSession(l.client, concurrency.WithTTL(l.ttl), concurrency.WithContext(life))
	if !stop() {
		return nil, ctx.Err()
	}
	if err != nil {
		cut()
		return nil, err
	}
	return &session{s, cut}, nil
}

// start runs a call of which nobody knows how long it takes.
func (l *etcdLocker) start(call func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	l.calls.Go(call)
	return nil
}

func (l *etcdLocker) Lock(ctx context.Context, name string) (Holding, error) {
	at, err := l.sit(name)
	if err != nil {
		return nil, err
	}
	s, err := l.session(ctx, at)
	if err != nil {
		l.rise(at, name)
		return nil, err
	}
	h := &etcdHolding{locker: l, seat: at, session: s, name: name, mutex: concurrency.NewMutex(s.Session, etcdPrefix+name)}
	h.release = sync.OnceValue(h.unlock)
	return h.lock(ctx)
}

// Close gives sessions a second to revoke their leases; those that can't run out.
func (l *etcdLocker) Close() {
	l.mu.Lock()
	var sessions []*session
	for _, s := range l.seats {
		if s.present != nil {
			sessions = append(sessions, s.present)
		}
	}
	l.closed, l.seats = true, nil
	l.mu.Unlock()
	var all sync.WaitGroup
	for _, s := range sessions {
		all.Go(func() {
			late := time.AfterFunc(time.Second, s.cut)
			defer late.Stop()
			_ = s.Close()
			s.cut()
		})
	}
	all.Wait()
	_ = l.client.Close()
	l.calls.Wait()
}

type etcdHolding struct {
	locker  *etcdLocker
	seat    *seat
	session *session
	name    string
	mutex   *concurrency.Mutex
	token   int64

	over    atomic.Bool // from the beginning of the release
	release func() error
}

// lock is the wait. When ctx ends, the mutex deletes its key with no limit to the time that takes; after a second that goes on without us.
func (h *etcdHolding) lock(ctx context.Context) (Holding, error) {
	locked, left := make(chan error), make(chan struct{})
	defer close(left)
	err := h.locker.start(func() {
		ctx, stop := either(ctx, h.locker.client.Ctx()) // a closed client does not keep it from trying again, for 2.5 s
		defer stop()
		err := h.mutex.Lock(ctx)
		select {
		case locked <- err:
			if err == nil {
				return
			}
		case <-left:
		}
		_ = h.giveBack()
	})
	if err != nil {
		h.locker.rise(h.seat, h.name)
		return nil, err
	}
	select {
	case err := <-locked:
		return h.got(err)
	case <-ctx.Done():
	}
	select {
	case err := <-locked:
		return h.got(err)
	case <-time.After(time.Second):
		return nil, ctx.Err()
	}
}

func (h *etcdHolding) got(err error) (Holding, error) {
	if err != nil {
		return nil, err
	}
	h.token = h.mutex.Header().Revision
	return h, nil
}

// giveBack deletes the key, if there is one, or waits until the session has ended and the key with it; then others may have the seat. The
// mutex tries once, and a key that it left behind would be in everybody's way for as long as the session lives.
func (h *etcdHolding) giveBack() error {
	defer h.locker.rise(h.seat, h.name)
	for {
		err := h.mutex.Unlock(h.session.Ctx())
		if err == nil || errors.Is(err, concurrency.ErrLockReleased) {
			return nil
		}
		select {
		case <-h.session.Done():
			return err
		case <-time.After(etcdAgain):
		}
	}
}

func (h *etcdHolding) unlock() error {
	h.over.Store(true)
	result := make(chan error, 1)
	if err := h.locker.start(func() { result <- h.giveBack() }); err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-time.After(releasing):
		return errUnreleased
	}
}

func (h *etcdHolding) Alive() bool { return !h.over.Load() && !h.session.ended() }

func (h *etcdHolding) Cause() error {
	if h.session.ended() {
		return concurrency.ErrSessionExpired
	}
	return nil
}

func (h *etcdHolding) Token() int64 { return h.token }

func (h *etcdHolding) Release() error { return h.release() }

// etcdKeys lists the keys of locks. All belong to sessions, so all run out.
func etcdKeys(address string) (map[string]time.Duration, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, DialTimeout: time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	found, err := c.Get(ctx, etcdPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	keys := make(map[string]time.Duration)
	for _, kv := range found.Kvs {
		keys[string(kv.Key)] = validity
	}
	return keys, nil
}
