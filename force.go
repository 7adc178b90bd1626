package ctxlock

import (
	"context"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// A claim that takes a lock from its holder (Mode Force, AcquireOption.From) has rivals in its own
// Locker that no server tells of it: those who hold the name, and those whose claims are under way.
// A claim that the server granted just before it was overtaken may hear of that just after.
//
// So the moment counts at which the grant of such a claim is known, under k.mu. Those who hold the
// lock then are ousted: their contexts end before the call returns. Those who are still claiming are
// overtaken: what they were answered may be from before, so a majority is worth nothing to them
// until another look at the keys, sent later than that moment, has confirmed it. So it is with
// places in the queue, whatever has told them that the lock is theirs: an answer, or a word.
//
// Nobody is ousted by a claim that fails. But it may have been carried out all the same. So its
// clean-up looks first: it ends the lock that it finds overwritten, and only then lets go of the key.

// oustedHolder is one of those whose lock was taken from within.
type oustedHolder struct {
	l     *holding
	ended <-chan struct{} // closed when somebody else has ended it; nil if that is to be done
	next  *oustedHolder
}

// outlive has the keys of a claim that takes the lock live no shorter than those of its holders here
// may be trusted: if no answer comes, they go on, and nobody else may get in before they end. Under
// k.mu.
func (k *locker) outlive(l *holding) {
	life := l.validity
	for other := k.locks[l.name]; other != nil; other = other.next {
		if other.state == held {
			life = max(life, other.validity)
		}
	}
	for i := range l.ops {
		l.ops[i].Validity = life
	}
	l.mayLive += life - l.validity
}

// oust makes a lock whose grant is known the only one of its name. If another is held here, that one
// is lost: taken by force, by this claim or by one that nobody has heard of, or deleted. Under k.mu;
// endOusted is to be called before the lock is handed out.
func (k *locker) oust(l *holding) {
	k.awaitEnding(l)
	for other := k.locks[l.name]; other != nil; {
		next := other.next
		if other != l {
			if l.takes || other.state == claiming {
				other.overtaken++
			}
			if other.state == held {
				l.wakes = l.wakes || other.wakes // waiters who rely on the wake key rely on the successor
				other.stopTimer()
				k.retire(other)
				l.ousted = &oustedHolder{l: other, next: l.ousted}
			}
		}
		other = next
	}
}

// awaitEnding has a lock whose grant is known wait for those of its name that were found to be lost
// just before, and whose contexts are about to end. Under k.mu.
func (k *locker) awaitEnding(l *holding) {
	for other, ended := range k.ending {
		if other.name == l.name {
			l.ousted = &oustedHolder{l: other, ended: ended, next: l.ousted}
		}
	}
}

// endOusted ends the contexts of those whom the claim has ousted, or waits for that. Not under k.mu.
func (l *holding) endOusted() {
	for o := l.ousted; o != nil; o = o.next {
		if o.ended != nil {
			<-o.ended
			continue
		}
		o.l.lost(&LostError{Name: l.name, Reason: Taken})
	}
	l.ousted = nil
}

// confirm looks at the keys again of a claim that has its majority, but was overtaken. Where
// valkeylock, which may be about to go, has one of the keys, it claims that again, several times.
func (l *holding) confirm() {
	k := l.k
	until := k.now() + max(leastGrace, k.patience.trips(4))
	for pause := time.Duration(0); ; pause = min(2*pause+time.Millisecond/4, leastGrace/4) {
		times, unsure := l.unsure()
		if !unsure {
			return
		}
		sleepFor(l, pause)
		asked, cancel := context.WithTimeoutCause(l, k.patience.now(), errNoAnswer)
		sent := k.now()
		book := l.lookAgain
		if times == 0 {
			book = l.claimAgain
		}
		clash := book(asked, sent) // locks k.mu
		cancel()
		if clash != nil {
			k.refuseClash(l, clash)
			return
		}
		k.judgeConfirmed(l, sent, times, k.now() >= until)
		k.mu.Unlock()
	}
}

// lookAgain reads all keys, and books what it finds. Locks k.mu.
func (l *holding) lookAgain(asked context.Context, sent time.Duration) (clash *MajorityError) {
	k := l.k
	ops := make([]store.Op, len(l.keys))
	for i := range ops {
		ops[i] = store.Op{Key: l.keys[i].name, Owner: l.owner}
	}
	read := func(ops []store.Op) { k.store.Read(asked, ops) }
	k.onMajority(ops, majorityRequest{send: read, decided: k.agreed})
	k.mu.Lock()
	l.bookConfirmation(sent, ops)
	return l.clashIn(ops)
}

// claimAgain claims the keys that bar the claim, and books the answers. Locks k.mu.
func (l *holding) claimAgain(asked context.Context, sent time.Duration) (clash *MajorityError) {
	k := l.k
	k.mu.Lock()
	indexes := l.bars()
	ops := pick(l.ops, indexes)
	k.mu.Unlock()
	for j := range ops {
		ops[j].Answer = store.Answer{}
	}
	k.onLanes(ops, func(ops []store.Op) { k.store.Claim(asked, ops) })
	k.mu.Lock()
	for j, i := range indexes {
		l.bookAgain(i, sent, &ops[j])
	}
	return l.clashIn(ops)
}

// bookAgain books the answer to another claim of key i. Under k.mu.
func (l *holding) bookAgain(i int, sent time.Duration, op *store.Op) {
	key := &l.keys[i]
	key.late = key.late || op.Unknown
	l.ops[i].Answer = op.Answer
	if key.late { // an earlier claim may still come
		l.ops[i].Unknown, l.ops[i].Stream = true, 0
	}
	if l.state != claiming {
		return
	}
	l.book(i, sent, op)
	if op.Mine() {
		l.token = max(l.token, op.Token)
	}
}

// clashIn is another majority that was met; nil if none was. Under k.mu.
func (l *holding) clashIn(ops []store.Op) *MajorityError {
	for i := range ops {
		if l.state == claiming && ops[i].Err == nil && l.k.clashes(ops[i].Holder) {
			return l.k.clash(l.name, ops[i].Holder)
		}
	}
	return nil
}

// unsure tells whether a look is needed, and how often the claim was overtaken: the look answers for
// all of these.
func (l *holding) unsure() (times int32, unsure bool) {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	if l.state != claiming || l.count(mine) < l.k.majority {
		return 0, false
	}
	return l.overtaken, l.overtaken > 0 || l.barred()
}

// bookConfirmation books what such a look has found. Trust still counts from the claim. Under k.mu.
func (l *holding) bookConfirmation(sent time.Duration, ops []store.Op) {
	if l.state != claiming {
		return
	}
	for i := range ops {
		op, key := &ops[i], &l.keys[i]
		was, until := key.standing, key.until
		if was != mine && was != taken { // its claim has no answer yet
			continue
		}
		key.standing = unheard
		l.book(i, sent, op)
		if key.until = min(key.until, until); key.standing == unheard && was == taken {
			key.standing = taken
		}
		if key.standing == unheard {
			l.restored = true // it is there, so it is to be released
		}
		if op.Err == nil {
			l.ops[i].Holder, l.ops[i].TTL = op.Holder, op.TTL
		}
	}
}

// judgeConfirmed decides by that. Under k.mu.
func (k *locker) judgeConfirmed(l *holding, sent time.Duration, times int32, last bool) {
	switch {
	case l.state != claiming:
	case l.count(mine) < k.majority:
		l.giveUp()
	case l.overtaken != times: // it was overtaken again
	case !l.barred():
		l.overtaken = 0
		k.begin(l, sent)
	case last:
		l.giveUp()
	}
}

// clean releases what attempts have left on one lane. Of what a forced one may have left, it releases
// what it has seen, and not before the lock has ended that it stands in the place of.
func (k *locker) clean(ctx context.Context, ops []store.Op) {
	var forced, release []int
	for i := range ops {
		if ops[i].Force {
			forced = append(forced, i)
		} else {
			release = append(release, i)
		}
	}
	if len(forced) == 0 {
		k.release(ctx, ops)
		return
	}
	found := pick(ops, forced)
	for again := true; again; {
		sent := k.now()
		k.store.Read(ctx, found)
		if again = k.overwritten(found, sent); again && !sleepFor(ctx, repeatPause) {
			again = false
			for j := range found {
				found[j].Answer = store.Answer{Err: errNoAnswer, Unknown: true}
			}
		}
	}
	for j, i := range forced {
		if ops[i].Answer = found[j].Answer; ops[i].Mine() {
			release = append(release, i)
		}
	}
	asked := pick(ops, release)
	k.release(ctx, asked)
	for j, i := range release {
		ops[i].Answer = asked[j].Answer
	}
}

// overwritten ends the locks whose keys were found, by a request that was sent then, to have been
// taken by claims that failed. again tells that the answer may be from before a lock that was granted
// since, and that nothing was done.
func (k *locker) overwritten(found []store.Op, sent time.Duration) (again bool) {
	var losses []loss
	k.mu.Lock()
	for i := range found {
		if found[i].Mine() && k.grantedSince(&found[i], sent) {
			k.mu.Unlock()
			return true
		}
	}
	for i := range found {
		if found[i].Mine() {
			losses = append(losses, k.bookOverwritten(&found[i])...)
		}
	}
	k.mu.Unlock()
	for _, loss := range losses {
		loss.l.lost(loss.cause)
		ops, until := loss.l.lostOps()
		k.leave(loss.l.name, ops, until)
	}
	return false
}

// grantedSince tells whether a lock with this key is held whose grant was not known yet at a moment.
// Under k.mu.
func (k *locker) grantedSince(op *store.Op, moment time.Duration) bool {
	name, _, _, ok := parseKey(k.prefix, op.Key, k.keys())
	if !ok {
		return false
	}
	for l := k.locks[name]; l != nil; l = l.next {
		if l.state == held && l.granted >= moment {
			return true
		}
	}
	return false
}

// bookOverwritten books one key. Under k.mu.
func (k *locker) bookOverwritten(op *store.Op) (losses []loss) {
	name, i, _, ok := parseKey(k.prefix, op.Key, k.keys())
	if !ok {
		return nil
	}
	for l := k.locks[name]; l != nil; {
		next := l.next
		if l.state != held {
			l.overtaken++
		} else if l.keys[i].standing = taken; l.count(mine) < k.majority {
			losses = append(losses, loss{l, l.lose()})
		}
		l = next
	}
	return losses
}
