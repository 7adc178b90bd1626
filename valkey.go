package ctxlock

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/store"
)

// valkeyStore keeps keys on Valkey or Redis. Everything that it does takes one round trip, on which all keys travel together;
// a second one is needed only where a server has forgotten a script, turns out to be too old for a command, or has had its
// clock set.
type valkeyStore struct {
	client   valkey.Client
	tracker  tracker
	cluster  bool
	lanes    [clusterLanes]*valkeyLane // the first alone unless this is a cluster
	topology topology

	start    time.Time
	clock    serverClock // not used in a cluster, where keys are on servers with different clocks
	pxat     bool
	patience time.Duration // how long replicas may take to acknowledge

	inbox    inbox
	queues   atomic.Bool // there are queues
	denied   sync.Once
	fallback watcher // is told what the store does without

	// What is being found out (see discover.go), and what is not known yet is asked for again.
	opened    time.Time             // when the client was connected
	found     <-chan struct{}       // closed when what follows, and the topology, is known
	tracking  atomic.Int32          // a finding: events come
	misplaced chan error            // of one: locks cannot be kept there
	untracked atomic.Pointer[error] // why they do not; set before tracking says so
	silence   atomic.Pointer[error] // why the last question had no answer; nil if all had

	// What the servers can do. Each is cleared for good when a server says otherwise.
	setGet  atomic.Bool // SET NX GET, in one: Redis 7.0, Valkey
	setIfeq atomic.Bool // SET IFEQ GET: Valkey 8.1, Redis 8.4
	delIfeq atomic.Bool // DELIFEQ: Valkey 9.0
	delex   atomic.Bool // DELEX IFEQ: Redis 8.4
}

func openValkey(option LockerOption, d drift) (*valkeyStore, error) {
	return openValkeyWithin(context.Background(), option, d)
}

// openValkeyWithin gives up connecting when life ends. What it opened lives until it is closed.
func openValkeyWithin(life context.Context, option LockerOption, d drift) (*valkeyStore, error) {
	s := &valkeyStore{start: time.Now(), pxat: !option.FallbackSETPX, patience: option.TryNextAfter, clock: serverClock{drift: d, usual: option.KeyValidity}}
	if s.patience == 0 {
		s.patience = leastPatience
	}
	for i := range s.lanes {
		s.lanes[i] = new(valkeyLane) // the client's callbacks may come before the client does
	}
	s.inbox.prefix = option.KeyPrefix
	s.tracker.noLoop = option.NoLoopTracking
	s.tracker.lost = s.onLost
	s.tracker.dialed = make(chan struct{})
	s.tracker.life, s.tracker.end = context.WithCancel(context.Background())
	defer context.AfterFunc(life, s.tracker.close)()
	build := option.ClientBuilder
	if build == nil {
		build = valkey.NewClient
	}
	defer func() {
		if s.client == nil {
			s.tracker.close() // a client that fails to start may leave connections (valkey-go v1.0.79, cluster), as may a builder that panics
		}
	}()
	client, err := build(s.tracker.prepare(option.ClientOption))
	if err != nil {
		return nil, explain(err, option.ClientOption)
	}
	if client == nil {
		return nil, errors.New("ClientBuilder returned neither a client nor an error")
	}
	s.client = client
	s.cluster = client.Mode() == valkey.ClientModeCluster
	if err := s.open(option); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// open finds out what the servers can do. Its error is that of servers on which no locks can be kept.
func (s *valkeyStore) open(option LockerOption) error {
	for _, lane := range s.lanes {
		lane.open(s.client, option.ClientOption.RingScaleEachConn, s.cluster)
	}
	s.setGet.Store(true)
	unused := keyOf(option.KeyPrefix, 0, newID(1))
	questions := []question{s.findPlace(unused), s.findTopology, s.findCommands(unused), s.findTracking(unused)}
	if option.ClientOption.DisableCache {
		s.decideTracking(errCacheDisabled)
		questions = questions[:len(questions)-1]
	}
	s.opened, s.misplaced = time.Now(), make(chan error, 1)
	s.found = s.find(questions...)
	return s.awaitPlace()
}

func (s *valkeyStore) now() time.Duration { return time.Since(s.start) }

func (s *valkeyStore) lane(key string) *valkeyLane { return s.lanes[s.Lane(key)] }

func (s *valkeyStore) Lane(key string) int {
	if !s.cluster {
		return 0
	}
	return s.topology.lane(slotOf(key))
}

func (s *valkeyStore) Watches() bool { return finding(s.tracking.Load()) == able }

// Echoes takes it for granted that events come until that is known: an echo that is not expected costs a look.
func (s *valkeyStore) Echoes() bool {
	return finding(s.tracking.Load()) != unable && !s.tracker.noLoop
}

func (s *valkeyStore) Subscribe(events func(store.Event)) { s.tracker.events.Store(&events) }

// Close closes the client, which waits for a reply from each connection, for a second at the most; and then what it may have
// left open.
func (s *valkeyStore) Close() {
	s.tracker.closing.Store(true)
	s.client.Close()
	s.tracker.close()
	s.topology.work.Wait()
}

// onLost is called when a connection was lost: what comes next may reach another server.
func (s *valkeyStore) onLost() {
	for _, lane := range s.lanes {
		lane.losses.Add(1)
		lane.shaky.Store(true)
		lane.replicas.Store(0)
	}
	s.clock.doubt()
}

// lifetime is how one request says how long its keys are to live: to a point in the server's time, or from when it arrives.
type lifetime struct {
	sent     time.Duration
	validity time.Duration
	at       int64  // the point in time, in milliseconds; zero if it is not known
	unit     string // PXAT or PX
	value    string
}

func (s *valkeyStore) lifetime(validity time.Duration) lifetime {
	life := lifetime{sent: s.now(), validity: validity, unit: "PX"}
	if at, ok := s.clock.deadline(life.sent, validity); ok && s.pxat && !s.cluster {
		life.at, life.unit, life.value = at, "PXAT", strconv.FormatInt(at, 10)
		return life
	}
	life.value = strconv.FormatInt(validity.Milliseconds(), 10)
	return life
}

// Claim is SET NX GET and PTTL for each key: the first says who has it, the second how long it lives, and registers tracking. Where
// there is a counter, a script is in the place of the first.
func (s *valkeyStore) Claim(ctx context.Context, ops []store.Op) {
	if len(ops) == 0 {
		return
	}
	queued := ops[0].Queue != "" && s.queueable(&ops[0])
	var distrust error
	if !s.cluster && !ops[0].Force && !ops[0].Restore {
		distrust = s.clock.distrusted(s.now(), ops[0].Validity)
	}
	if distrust != nil && !queued {
		failAll(ops, distrust)
		return
	}
	if err := s.reachable(ops); err != nil {
		failAll(ops, store.Permanent(err))
		return
	}
	if ops[0].Replicas > 0 && !s.askReplicas(ctx, ops) {
		return
	}
	if queued {
		s.join(ctx, ops, distrust)
	} else if refused := s.claim(ctx, ops, false); refused != nil {
		s.claim(ctx, ops, unknownScript(refused))
	}
	if ops[0].Replicas > 0 {
		s.confirm(ctx, ops)
	}
}

// reachable finds keys and counters that a cluster keeps apart.
func (s *valkeyStore) reachable(ops []store.Op) error {
	if !s.cluster || ops[0].Counter == "" {
		return nil
	}
	for i := range ops {
		if slotOf(ops[i].Key) != slotOf(ops[i].Counter) {
			return errors.New("fencing tokens on a cluster need a name whose closing braces end a hash tag: otherwise the key and its counter are in different slots")
		}
	}
	return nil
}

// claim gives the first error that says that it should be asked again, in another way. whole sends scripts in full.
func (s *valkeyStore) claim(ctx context.Context, ops []store.Op, whole bool) (refused error) {
	setGet := s.setGet.Load()
	life := s.lifetime(ops[0].Validity)
	askTime := !s.cluster && (life.at == 0 || s.clock.stale(life.sent, askAfter))
	batch := s.claimBatch(ops, life, setGet, whole)
	if askTime {
		batch.add(s.client.B().Time().Build())
	}
	answers := s.lane(ops[0].Key).ask(ctx, usual, ops[0].Key, batch)
	var set *store.Op // one that was set just now
	for i := range ops {
		if answers.claim(&ops[i], setGet) {
			set = &ops[i]
		}
		if setGet && unknownCommand(ops[i].Err) {
			s.setGet.Store(false)
			return ops[i].Err
		}
		if unknownScript(ops[i].Err) {
			return ops[i].Err
		}
	}
	step := s.observe(life, set)
	if askTime {
		step = max(step, s.observeTime(life, answers.next()))
	}
	switch {
	case !ops[0].Force && !s.cluster && s.clock.distrusted(s.now(), ops[0].Validity) != nil: // perhaps found out by another claim, while this was under way
		s.doubt(ops)
	case step != steady && life.at != 0: // they were given the wrong life
		s.extendAgain(ctx, ops)
	}
	return nil
}

// extendAgain gives what was claimed the life that it should have had. The answers to the claim are kept where they say more.
func (s *valkeyStore) extendAgain(ctx context.Context, ops []store.Op) {
	tokens := make([]int64, len(ops))
	for i := range ops {
		tokens[i] = ops[i].Token
	}
	s.Extend(ctx, ops)
	for i := range ops {
		op := &ops[i]
		op.Unknown = op.Unknown || op.Err != nil
		if op.Mine() {
			op.Token = tokens[i]
		}
	}
}

// claimBatch is the commands of a claim.
func (s *valkeyStore) claimBatch(ops []store.Op, life lifetime, setGet, whole bool) *batch {
	b, batch := s.client.B(), newBatch()
	for i := range ops {
		op := &ops[i]
		if op.Wake != "" {
			batch.add(
				b.Set().Key(op.Wake).Value("1").Nx().PxMilliseconds(store.WakeLife.Milliseconds()).Build(),
				b.Pttl().Key(op.Wake).Build())
		}
		switch set := b.Arbitrary("SET").Keys(op.Key).Args(op.Owner, life.unit, life.value); {
		case byScript(op):
			batch.add(claimScript.command(b, whole, keys(op), op.Owner, life.unit, life.value, flag(op.Force), strconv.FormatInt(op.Floor, 10), op.From))
		case op.Force && setGet:
			batch.add(set.Args("GET").Build())
		case op.Force:
			batch.add(set.Build())
		case setGet:
			batch.add(set.Args("NX", "GET").Build())
		default:
			batch.add(set.Args("NX").Build(), b.Get().Key(op.Key).Build())
		}
		batch.add(b.Pttl().Key(op.Key).Build())
	}
	return batch
}

// byScript tells whether a claim takes more than SET can do.
func byScript(op *store.Op) bool { return op.Counter != "" || op.From != "" }

// keys are those that a script about an op uses.
func keys(op *store.Op) []string {
	if op.Counter == "" {
		return []string{op.Key}
	}
	return []string{op.Key, op.Counter}
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

// doubt takes back what was claimed on a server whose clock has just jumped ahead: the keys may have been free only because
// they ran out before their time.
func (s *valkeyStore) doubt(ops []store.Op) {
	err := s.clock.distrusted(s.now(), ops[0].Validity)
	for i := range ops {
		if op := &ops[i]; op.Err == nil && (op.Holder == op.Owner || op.Holder == "") {
			op.Err, op.Unknown = err, true
		}
	}
}

// observe learns from the TTL of a key that was just given an expiry in the server's time, and reports a jump of its clock.
func (s *valkeyStore) observe(life lifetime, set *store.Op) clockStep {
	if life.at == 0 || set == nil || set.Err != nil || set.TTL == store.Forever {
		return steady
	}
	server := time.Duration(life.at)*time.Millisecond - set.TTL
	return s.clock.observe(server, life.sent, s.now())
}

// observeTime learns from an answer to TIME.
func (s *valkeyStore) observeTime(life lifetime, answer valkey.ValkeyResult) clockStep {
	return s.observeServer(life, timeIn(answer))
}

// observeServer learns from a time that a server has told; zero is none.
func (s *valkeyStore) observeServer(life lifetime, server time.Duration) clockStep {
	if server == 0 {
		return steady
	}
	return s.clock.observe(server, life.sent, s.now())
}

// timeIn is the answer to TIME; zero if it is none.
func timeIn(answer valkey.ValkeyResult) time.Duration {
	parts, err := answer.AsStrSlice()
	if err != nil || len(parts) != 2 {
		return 0
	}
	return serverTime(parts[0], parts[1])
}

// serverTime reads what TIME says; zero if that is no time.
func serverTime(seconds, micros string) time.Duration {
	s, err := strconv.ParseInt(seconds, 10, 64)
	us, err2 := strconv.ParseInt(micros, 10, 64)
	if err != nil || err2 != nil || s < 0 || s > mostSeconds {
		return 0
	}
	return time.Duration(s)*time.Second + time.Duration(us)*time.Microsecond
}

// mostSeconds is far beyond any time that a server tells, and fits a time.Duration with room to add.
const mostSeconds = 8e9

// Extend is SET IFEQ GET, or a script that does the same, and PTTL for each key.
func (s *valkeyStore) Extend(ctx context.Context, ops []store.Op) {
	if len(ops) == 0 {
		return
	}
	life := s.lifetime(ops[0].Validity)
	native := s.setIfeq.Load() && ops[0].Counter == ""
	refused := s.extend(ctx, ops, life, native, false)
	if native && unknownCommand(refused) {
		s.setIfeq.Store(false)
	}
	if native && refused != nil {
		refused = s.extend(ctx, ops, life, false, false)
	}
	if unknownScript(refused) {
		s.extend(ctx, ops, life, false, true)
	}
	if s.cluster {
		if anyUnknown(ops) { // a node has failed, and its slots may have gone elsewhere
			s.topology.relearn(s.client)
		}
		return
	}
	for i := range ops {
		if op := &ops[i]; op.Err == nil && op.Holder == op.Owner {
			if s.observe(life, op) != steady { // they were given the wrong life, and the clock is known better now
				s.extend(ctx, ops, s.lifetime(ops[0].Validity), native, !native)
			}
			return
		}
	}
}

// extend gives the first error that says that it should be asked in another way.
func (s *valkeyStore) extend(ctx context.Context, ops []store.Op, life lifetime, native, whole bool) (refused error) {
	b := s.client.B()
	batch := newBatch()
	verb := "PEXPIRE"
	if life.at != 0 {
		verb = "PEXPIREAT"
	}
	for i := range ops {
		op := &ops[i]
		switch {
		case op.Counter != "":
			batch.add(raiseScript.command(b, whole, keys(op), op.Owner, verb, life.value, strconv.FormatInt(op.Floor, 10)))
		case native:
			batch.add(b.Arbitrary("SET").Keys(op.Key).Args(op.Owner, life.unit, life.value, "IFEQ", op.Owner, "GET").Build())
		default:
			batch.add(extendScript.command(b, whole, keys(op), op.Owner, verb, life.value))
		}
		// A server tells a connection of that connection's own changes after the command that made them. Because the read
		// is a command of its own, and not a part of the script, they are told of before its answer.
		batch.add(b.Pttl().Key(op.Key).Build())
	}
	answers := s.lane(ops[0].Key).ask(ctx, extending, ops[0].Key, batch)
	if answers.command = evalsha; native {
		answers.command = "SET"
	}
	for i := range ops {
		answers.extend(&ops[i])
		if unknownCommand(ops[i].Err) || unknownScript(ops[i].Err) || outOfMemory(ops[i].Err) {
			refused = ops[i].Err
		}
	}
	return refused
}

// Release is DELIFEQ, or DELEX IFEQ, or a script that does the same, or one that passes the lock on; and DEL for wake keys.
func (s *valkeyStore) Release(ctx context.Context, ops []store.Op) {
	if len(ops) == 0 {
		return
	}
	refused := s.release(ctx, ops, false)
	if refused == nil {
		return
	}
	found := make([]bool, len(ops)) // by what was not refused, which is asked again with the rest
	again := func(whole bool) {
		for i := range ops {
			found[i] = found[i] || ops[i].Err == nil && ops[i].Found
		}
		refused = s.release(ctx, ops, whole)
	}
	if refusesQueue(refused) && ops[0].Queue != "" {
		s.deny(refused)
		again(false)
	}
	if unknownCommand(refused) {
		s.delIfeq.Store(false)
		s.delex.Store(false)
		again(false)
	}
	if unknownScript(refused) {
		again(true)
	}
	for i := range ops {
		ops[i].Found = ops[i].Found || ops[i].Err == nil && found[i]
	}
}

func (s *valkeyStore) release(ctx context.Context, ops []store.Op, whole bool) (refused error) {
	b := s.client.B()
	batch := newBatch()
	queues := s.queues.Load() // once: what was sent must be read as that
	passes := func(op *store.Op) bool { return op.Queue != "" && queues && s.atQueue(op) }
	for i, n := 0, 1; i < len(ops); i += n {
		op := &ops[i]
		switch n = 1; {
		case passes(op):
			n = together(ops[i:])
			batch.add(s.pass(ops[i:i+n], whole))
		case s.delIfeq.Load():
			batch.add(b.Delifeq().Key(op.Key).Value(op.Owner).Build())
		case s.delex.Load():
			batch.add(b.Delex().Key(op.Key).Ifeq(op.Owner).Build())
		default:
			batch.add(releaseScript.command(b, whole, []string{op.Key}, op.Owner))
		}
		if op.Wake != "" {
			batch.add(b.Del().Key(op.Wake).Build())
		}
	}
	answers := s.lane(ops[0].Key).ask(ctx, releasing, ops[0].Key, batch)
	for i, n := 0, 1; i < len(ops); i += n {
		if n = 1; passes(&ops[i]) {
			n = together(ops[i:])
			answers.passed(ops[i : i+n])
			answers.wake(&ops[i])
		} else {
			answers.command = s.releaseCommand()
			answers.release(&ops[i])
		}
		if err := ops[i].Err; unknownCommand(err) || unknownScript(err) || err != nil && ops[i].Queue != "" && refusesQueue(err) {
			refused = err
		}
	}
	return refused
}

// releaseCommand is what errors call the command that releases a key.
func (s *valkeyStore) releaseCommand() string {
	switch {
	case s.delIfeq.Load():
		return "DELIFEQ"
	case s.delex.Load():
		return "DELEX"
	}
	return evalsha
}

// Read is GET and PTTL, or a script that tells of a place in the queue, too.
func (s *valkeyStore) Read(ctx context.Context, ops []store.Op) {
	if len(ops) == 0 {
		return
	}
	if ops[0].Queue != "" && s.queueable(&ops[0]) {
		s.readPlace(ctx, ops)
		return
	}
	b, batch := s.client.B(), newBatch()
	for i := range ops {
		batch.add(b.Get().Key(ops[i].Key).Build(), b.Pttl().Key(ops[i].Key).Build())
	}
	answers := answers{ctx: ctx, results: s.lane(ops[0].Key).do(ctx, ops[0].Key, batch), command: "GET"}
	for i := range ops {
		answers.extend(&ops[i])
	}
}

// Look is PTTL.
func (s *valkeyStore) Look(ctx context.Context, ops []store.Op) {
	if len(ops) == 0 {
		return
	}
	batch := newBatch()
	for i := range ops {
		batch.add(s.client.B().Pttl().Key(ops[i].Key).Build())
	}
	answers := answers{ctx: ctx, results: s.lane(ops[0].Key).do(ctx, ops[0].Key, batch)}
	for i := range ops {
		answers.look(&ops[i])
	}
}
