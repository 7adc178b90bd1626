package ctxlock

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/store"
)

// queueLife is how long a queue lives when nobody comes to it or looks to their place. All waiters do so more often.
const queueLife = placeLife

// Queues is how many keys a script may use at once: in a cluster they are in different slots.
func (s *valkeyStore) Queues() int {
	switch {
	case !s.queues.Load():
		return 0
	case s.cluster:
		return 1
	}
	return mostMajority * 2
}

// deny gives up on queues, and says so once. That the store is being closed is no reason.
func (s *valkeyStore) deny(err error) {
	if s.tracker.closing.Load() {
		return
	}
	s.queues.Store(false)
	s.denied.Do(func() { s.fallBack(store.Permanent(permitted(err, s.inbox.prefix))) })
}

// fallBack tells what the store does without, and why.
func (s *valkeyStore) fallBack(err error) {
	if s.fallback.tell != nil {
		s.fallback.hear(err)
	}
}

// refusesQueue tells whether an error means that there can be no queues on this server, or for this user.
func refusesQueue(err error) bool {
	if err == nil {
		return false
	}
	said := strings.ToLower(err.Error())
	for _, sign := range []string{"noperm", "no permissions", "unknown command", "unknown redis command", "can't run this command", "compiling script"} {
		if strings.Contains(said, sign) {
			return true
		}
	}
	return false
}

// queueable tells whether there is a queue where the keys are.
func (s *valkeyStore) queueable(op *store.Op) bool { return s.queues.Load() && s.atQueue(op) }

// atQueue tells whether the queue is where the keys are.
func (s *valkeyStore) atQueue(op *store.Op) bool {
	return !s.cluster || slotOf(op.Queue) == slotOf(op.Key)
}

// together counts the ops at the beginning that are the keys of one lock.
func together(ops []store.Op) int {
	n := 1
	for n < len(ops) && ops[n].Queue != "" && ops[n].Queue == ops[0].Queue && ops[n].Owner == ops[0].Owner {
		n++
	}
	return n
}

// entry is how a waiter stands in the queue with its claim of an epoch, and is told by messages, or by touch.
func (s *valkeyStore) entry(op *store.Op, epoch int32, messages bool) string {
	var room [256]byte
	buf := strconv.AppendInt(room[:0], op.Validity.Milliseconds(), 10)
	buf = append(buf, ':')
	if op.Fenced {
		buf = append(buf, 'f')
	}
	buf = append(buf, ':')
	buf = strconv.AppendInt(buf, int64(epoch), 10)
	buf = append(buf, ':')
	if messages {
		buf = append(buf, 'm')
	} else {
		buf = append(buf, 'k')
	}
	buf = append(append(buf, s.inbox.id...), ':')
	return string(append(buf, op.Owner...))
}

// entries are those that a wait may have in the queue already, from before an epoch; and of that epoch, if the way to be
// told has changed since the Locker was made: then they may be of either kind.
func (s *valkeyStore) entries(args []string, op *store.Op, before int32, messages bool) []string {
	turned := s.inbox.turned.Load()
	for epoch := max(op.Settled, 1); epoch <= before; epoch++ {
		if epoch < before {
			args = append(args, s.entry(op, epoch, messages))
		}
		if turned {
			args = append(args, s.entry(op, epoch, !messages))
		}
	}
	return args
}

// channels is what the names of channels begin with; empty if there are none, or this user may not use them. While that
// is not known it is tried: the next in the queue may expect a message.
func (s *valkeyStore) channels() string {
	if s.inbox.refused.Load() {
		return ""
	}
	return s.inbox.channels
}

// join is a claim that stands in the queue if it fails. The ops are the keys of one lock. distrust is why a key that is free must not be taken, or
// nil: it may have run out before its time. Who stands in the queue gets the lock from one who has it, which is as good as ever.
func (s *valkeyStore) join(ctx context.Context, ops []store.Op, distrust error) {
	life := s.lifetime(ops[0].Validity)
	said, step := s.joinOnce(ctx, ops, life, joining{wary: distrust != nil})
	if unknownScript(said.results[0].Error()) {
		again, more := s.joinOnce(ctx, ops, life, joining{wary: distrust != nil, whole: true})
		said, step = again, max(step, more)
	}
	said.command = evalsha
	taken, refused := said.join(ops)
	switch {
	case refused != nil && distrust != nil:
		failAll(ops, distrust)
		return
	case refused != nil:
		s.withoutQueue(ctx, ops, refused)
		return
	}
	if distrust != nil && ops[0].Queued && !heldByOthers(ops) {
		for i := range ops {
			ops[i].Err = distrust
		}
	}
	if s.cluster || taken == 0 {
		return
	}
	switch step = max(step, s.clock.observe(taken, life.sent, s.now())); {
	case ops[0].Mine() && !passedOn(ops) && s.clock.distrusted(s.now(), ops[0].Validity) != nil:
		s.doubt(ops)
		s.giveBack(ctx, ops)
	case step != steady && life.at != 0: // the keys were given the wrong life
		s.extendAgain(ctx, ops)
	}
}

// giveBack leaves keys free that were taken and must not be trusted. Kept, they would be in the way
// until they run out, and those who have not noticed the jump would notice it only then.
func (s *valkeyStore) giveBack(ctx context.Context, ops []store.Op) {
	rest := make([]store.Op, len(ops))
	for i := range ops {
		rest[i] = ops[i]
		rest[i].Free, rest[i].Answer = true, store.Answer{}
	}
	s.Release(ctx, rest)
	for i := range rest {
		ops[i].Unknown = ops[i].Unknown && rest[i].Err != nil
	}
}

// passedOn tells whether a claim has found that its lock was passed on to it. If all claims before it
// were answered, nothing else can have made the keys its own.
func passedOn(ops []store.Op) bool {
	for i := range ops {
		if ops[i].Mine() && !ops[i].Found {
			return false
		}
	}
	return ops[0].Settled >= ops[0].Epoch-1
}

// joinFlags are those of the script.
func joinFlags(op *store.Op, wary bool) string {
	flags := make([]byte, 0, 4)
	if op.Timed {
		flags = append(flags, 't')
	}
	if op.Renew {
		flags = append(flags, 'r')
	}
	if wary {
		flags = append(flags, 'n')
	}
	return string(flags)
}

// withoutQueue is a claim that could not stand in the queue.
func (s *valkeyStore) withoutQueue(ctx context.Context, ops []store.Op, refused error) {
	for i := range ops {
		ops[i].Answer = store.Answer{}
	}
	if again := s.claim(ctx, ops, false); again != nil {
		s.claim(ctx, ops, unknownScript(again))
	}
	if refusesQueue(refused) && ops[0].Err == nil {
		s.deny(refused)
	}
}

// joining is how the script is run.
type joining struct {
	wary  bool // takes nothing that is free
	whole bool // sends it in full
}

// heldByOthers tells whether somebody was met who has one of the keys.
func heldByOthers(ops []store.Op) bool {
	for i := range ops {
		if ops[i].Holder != store.Unnamed && ops[i].Holder != "" {
			return true
		}
	}
	return false
}

// joinOnce runs the script, and gives its answer, and whether the server's clock was found to have jumped.
func (s *valkeyStore) joinOnce(ctx context.Context, ops []store.Op, life lifetime, how joining) (said answers, step clockStep) {
	op, b, batch := &ops[0], s.client.B(), newBatch()
	rank := ""
	if op.Return > 0 && op.Return < mostRank {
		rank = strconv.FormatInt(op.Return, 10)
	}
	messages := s.inbox.messages.Load() // once: the entry and what is watched must agree
	if !messages {                      // by a command of its own: up to Redis 7.0, scripts have all of their keys watched, and no others
		batch.add(b.Exists().Key(op.Queue + ":" + s.inbox.id).Build())
	}
	entry := s.entry(op, op.Epoch, messages)
	args := append(make([]string, 0, 16), strconv.Itoa(len(ops)), op.Owner, s.channels(), life.unit, life.value, entry, rank,
		strconv.FormatInt(op.Floor, 10), strconv.FormatInt(queueLife.Milliseconds(), 10), joinFlags(op, how.wary), s.mark(op.Queue, pauseMark, pauseSlotMark),
		s.mark(op.Queue, callMark, callSlotMark), milliseconds(op.Call))
	args = s.entries(args, op, op.Epoch, messages)
	batch.add(joinScript.command(b, how.whole, s.queueKeys(ops, op.Counter != ""), args...))
	if !s.cluster && s.clock.stale(life.sent, askQueuedAfter) { // a claim that fails must tell of the clock, too
		batch.add(b.Time().Build())
	}
	said = s.lane(op.Key).ask(ctx, usual, op.Key, batch)
	if !messages {
		said.next()
	}
	if len(said.results) > 1 {
		step = s.observeTime(life, said.results[1])
	}
	return said, step
}

// queueKeys are the keys of the scripts: the lock's, the queue, and the counters of fencing tokens.
func (s *valkeyStore) queueKeys(ops []store.Op, counters bool) []string {
	keys := make([]string, 0, 2*len(ops)+1)
	for i := range ops {
		keys = append(keys, ops[i].Key)
	}
	keys = append(keys, ops[0].Queue)
	for i := range ops {
		if counters {
			keys = append(keys, ops[i].Counter)
		}
	}
	return keys
}

// readPlace reads the keys of a lock, and whether its waiter still stands in the queue.
func (s *valkeyStore) readPlace(ctx context.Context, ops []store.Op) {
	op := &ops[0]
	for _, whole := range []bool{false, true} {
		entry := s.entry(op, op.Epoch, s.inbox.messages.Load())
		batch := newBatch()
		batch.add(placeScript.command(s.client.B(), whole, s.queueKeys(ops, false), entry))
		answers := answers{ctx: ctx, results: s.lane(op.Key).do(ctx, op.Key, batch), command: evalsha}
		answers.place(ops)
		if !unknownScript(op.Err) {
			return
		}
	}
}

// place reads what placeScript says.
func (a *answers) place(ops []store.Op) {
	parts, err := a.next().ToArray()
	if err == nil && len(parts) != 2*len(ops)+1 {
		err = errStrange
	}
	for i := range ops {
		op := &ops[i]
		op.Answer = store.Answer{}
		if err != nil {
			a.fail(op, err)
			continue
		}
		holder, err := parts[2*i].ToString()
		ms, err2 := parts[2*i+1].AsInt64()
		switch {
		case err != nil || err2 != nil:
			a.fail(op, errStrange)
		case ms == -2:
		case holder == "":
			op.Holder, op.TTL = store.Unnamed, leftOf(ms)
		default:
			op.Holder, op.TTL = holder, leftOf(ms)
		}
	}
	if err == nil {
		queued, err := parts[2*len(ops)].AsInt64()
		ops[0].Queued = err != nil || queued != 0 // what is not known is taken for granted
	}
}

// milliseconds writes a duration; one that is not zero is no less than a millisecond.
func milliseconds(d time.Duration) string {
	if d > 0 {
		d = max(d, time.Millisecond)
	}
	return strconv.FormatInt(d.Milliseconds(), 10)
}

// mark is a key beside a queue: that of a pause is there while nobody who stands in it takes a free key, and that of a roll call while there is no
// other. It has a letter of its own: whatever follows a name may be another name.
func (s *valkeyStore) mark(queue, letter, slotLetter string) string {
	if rest, ok := strings.CutPrefix(queue, s.inbox.prefix+":"+queueSlotMark+":"); ok {
		return s.inbox.prefix + ":" + slotLetter + ":" + rest
	}
	if rest, ok := strings.CutPrefix(queue, s.inbox.prefix+":"+queueMark+":"); ok {
		return s.inbox.prefix + ":" + letter + ":" + rest
	}
	return queue + ":" + letter
}

// pass is the command of a release that passes a lock on. The ops are the keys of one lock.
func (s *valkeyStore) pass(ops []store.Op, whole bool) valkey.Completed {
	op, messages := &ops[0], s.inbox.messages.Load()
	spent := strconv.FormatInt(op.Remaining.Microseconds(), 10) + " " + strconv.FormatInt(op.Alone.Microseconds(), 10)
	args := append(make([]string, 0, 12), strconv.Itoa(len(ops)), op.Owner, s.channels(), flag(!op.Free),
		strconv.Itoa(int(op.Passes)), spent, strconv.FormatInt(op.Floor, 10),
		strconv.FormatInt(op.Yield.Milliseconds(), 10), s.mark(op.Queue, pauseMark, pauseSlotMark),
		s.mark(op.Queue, callMark, callSlotMark), milliseconds(max(op.Call+op.Yield, time.Millisecond)))
	if op.Epoch > 0 {
		args = s.entries(args, op, op.Epoch+1, messages)
	}
	return passScript.command(s.client.B(), whole, s.queueKeys(ops, op.Counter != ""), args...)
}

// join reads what came back for the keys of one lock. taken is when it was taken, by the server's time, or zero if it was not; refused is why it
// does not stand in the queue either.
func (a *answers) join(ops []store.Op) (taken time.Duration, refused error) {
	for i := range ops {
		ops[i].Answer = store.Answer{Stream: a.stream}
	}
	parts, err := a.next().ToArray()
	if err == nil && len(parts) != 5+len(ops) {
		err = errStrange
	}
	if refusesQueue(err) {
		return 0, err
	}
	for i := range ops {
		if err != nil {
			a.fail(&ops[i], err)
		}
	}
	if err != nil {
		return 0, nil
	}
	state, err := parts[0].AsInt64()
	token, err2 := parts[1].AsInt64()
	holder, _ := parts[2].ToString()
	left, err3 := parts[3].AsInt64()
	if err != nil || err2 != nil || err3 != nil {
		failAll(ops, store.Permanent(errStrange))
		return 0, nil
	}
	said, _ := parts[4].ToString()
	if state < 0 {
		return 0, fmt.Errorf("the queue: %s", said)
	}
	if state == 1 {
		seconds, micros, _ := strings.Cut(said, " ")
		taken = serverTime(seconds, micros)
	} else {
		ops[0].Rank = rankOf(said)
	}
	for i := range ops {
		op := &ops[i]
		op.Queued, op.Watched, op.Told = state != 1, state >= 2, state == 3
		key, _ := parts[5+i].ToString()
		if a.joined(op, key, holder, leftOf(left)); op.Mine() {
			op.Token = token
		}
	}
	return taken, nil
}

// mostRank is where floating point, by which servers count ranks, is no longer exact.
const mostRank = 9e15

// rankOf reads a rank; zero if that is none.
func rankOf(said string) int64 {
	rank, err := strconv.ParseInt(said, 10, 64)
	if err != nil || rank < 0 || rank >= mostRank {
		return 0
	}
	return rank
}

// joined reads what became of one key. holder is another whom the lock's keys have met, and left what the first of them has left.
func (a *answers) joined(op *store.Op, said, holder string, left time.Duration) {
	kind, ttl := said[:min(len(said), 1)], said[min(len(said), 1):]
	switch kind {
	case "o", "n":
		ms, err := strconv.ParseInt(ttl, 10, 64)
		if err != nil {
			a.fail(op, errStrange)
		} else if ms != -2 {
			op.Holder, op.TTL, op.Found = op.Owner, leftOf(ms), kind == "o"
		}
	case "h":
		op.Holder, op.TTL = holder, left
		if holder == "" {
			op.Holder = store.Unnamed
		}
	case "f":
		if op.Queued { // it is free, and somebody else's turn
			op.Holder, op.TTL = store.Unnamed, left
		}
	default:
		a.fail(op, errStrange)
	}
}

// leftOf is what PTTL says, as far as it is a time.
func leftOf(ms int64) time.Duration {
	switch {
	case ms == -1 || ms > store.Forever.Milliseconds():
		return store.Forever
	case ms < 0:
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

// passed reads, for the keys of one lock, which were there to be released.
func (a *answers) passed(ops []store.Op) {
	a.command = evalsha
	parts, err := a.next().ToArray()
	if err == nil && len(parts) != len(ops) {
		err = errStrange
	}
	for i := range ops {
		ops[i].Answer = store.Answer{Stream: a.stream}
		if err != nil {
			a.fail(&ops[i], err)
			continue
		}
		mine, _ := parts[i].AsInt64()
		ops[i].Found = mine == 1
	}
}
