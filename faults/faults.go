package main

import "time"

// allFaults are the rows of the table, in its order.
var allFaults = []*fault{
	{Name: "nothing", Text: "nothing goes wrong", Bound: oneValidity, Strike: onAll(nothing, 2*validity)},

	{Name: "stalled", Text: "the holder's link stalls, both ways", Bound: oneValidity, Strike: onHolder(stall)},
	{Name: "requests stalled", Text: "the holder's requests stall, replies arrive", Bound: oneValidity, Strike: onHolder(stallUp)},
	{Name: "replies stalled", Text: "replies to the holder stall, its requests arrive", Bound: oneValidity, Strike: onHolder(stallDown)},
	{Name: "flapping", Text: "the holder's link stalls and heals, again and again, one way or both", Bound: oneValidity, Strike: inTurn(validity*3/5, stall, stallUp, stallDown)},
	{Name: "cut", Text: "the holder's connections are cut, and refused for longer than the validity", Bound: oneValidity, Strike: onHolder(cutOff)},
	{Name: "cuts", Text: "everybody's connections are cut, again and again", Bound: oneValidity, Strike: onAll(cuts, 3*validity)},
	{Name: "slow", Text: "all links are slow: 300 ms a round trip",
		Bound: oneValidity.lateBy(10*300*time.Millisecond, "ten turns, a round trip each"), Strike: onAll(slowed, 3*validity)},
	{Name: "waiters stalled", Text: "all waiters' links stall while the holder releases", Bound: oneValidity.together(), Strike: onWaiters(stall)},
	{Name: "replies lost", Text: "a fifth of all commands, carried out or not, ends with a cut in place of its reply", Bound: oneValidity, Strike: onAll(lostReplies, 3*validity), Not: notEtcd},

	{Name: "frozen", Text: "the server is stopped (SIGSTOP) for longer than the validity", Bound: oneValidity, Strike: onHolder(frozen)},
	{Name: "restart with data", Text: "the server is killed and restarted with its data (appendfsync always)", Bound: oneValidity, Strike: onHolderFor(killedAndKept, validity/4, validity/2), Config: logged("always")},
	{Name: "clock ahead", Text: jumping(clockAhead), Config: ownClock, Bound: oneValidity.plus(validity, "the clock steps twice"), Strike: onHolder(clockAhead), Not: notEtcd},
	{Name: "clock behind", Text: jumping(clockBehind), Config: ownClock, Bound: oneValidity.plus(validity, "the clock steps twice"), Strike: onHolder(clockBehind), Not: notEtcd},
	{Name: "clock near", Text: jumping(clockNear), Config: ownClock, Bound: oneValidity.plus(validity, "the clock steps twice"), Strike: onHolder(clockNear), Not: notEtcd},
	{Name: "CLIENT KILL", Text: "the server kills connections, again and again", Bound: oneValidity, Strike: onAll(clientsKilled, 3*validity), Not: notEtcd},
	{Name: "CLIENT PAUSE", Text: "CLIENT PAUSE for longer than the validity", Bound: oneValidity, Strike: onHolder(paused), Not: notEtcd},
	{Name: "SCRIPT FLUSH", Text: "SCRIPT FLUSH, again and again", Bound: oneValidity, Strike: onAll(scriptsFlushed, 3*validity), Not: notEtcd},
	{Name: "tracking overflow", Text: "the server's tracking table has room for one key", Bound: oneValidity, Strike: onAll(tableOverflow, 3*validity), Not: notEtcd},
	{Name: "buffer limits", Text: "the server cuts off all who have subscribed to a channel, since their output buffers are overfull, again and again (the others have no channels)", Bound: oneValidity, Strike: onAll(overfull, 3*validity), Only: []string{oursLibrary}},
	{Name: "foreign keys", Text: "100,000 foreign keys with a time to live, and the holder crashes", Bound: oneValidity, Strike: crashAmongForeignKeys, Not: notEtcd},
	{Name: "slot migrated", Text: "in a cluster, the lock's slots move to another node while it is held and waited for", Kind: Cluster, Bound: oneValidity, Strike: migrate},

	{Name: "crash", Text: "the holder's process is killed (SIGKILL)", Bound: oneValidity, Strike: onHolderFor(crashed, 2*validity, 5*validity/2)},
	{Name: "stopped at work", Text: "the holder's process is stopped (SIGSTOP) past the validity, in the middle of work; it looks before it writes", Bound: oneValidity, Strike: onHolder(stopped)},
	{Name: "starved", Text: "eight busy threads for each core", Quiet: true, Bound: oneValidity, Strike: onAll(starved, 3*validity)},
	{Name: "cancelled", Text: "the caller's context is cancelled, and work takes 300 ms to unwind (valkeylock and rueidislock give the lock back at once, and say so)", Except: []string{valkeylockLibrary, "rueidislock"}, Bound: oneValidity, Strike: onHolderFor(cancelled, validity/2, validity)},
	{Name: "mixed fleet", Text: "a fleet of ctxlock and valkeylock; nothing goes wrong", Only: []string{oursLibrary}, Fleet: mixedFleet, Bound: oneValidity, Strike: onAll(nothing, 2*validity)},
	{Name: "mixed fleet cut", Text: "the same, connections are cut again and again", Only: []string{oursLibrary}, Fleet: mixedFleet, Bound: oneValidity, Strike: onAll(cuts, 3*validity)},

	{Name: "waiters stopped", Text: "five of seven waiters are stopped (SIGSTOP) in line", Clients: 8, Workers: 1, Holds: brief,
		Bound: oneValidity.together(), Strike: onMostWaiters(stopped, 5)},
	{Name: "waiters stopped Cluster", Text: "the same in a cluster", Kind: Cluster, Clients: 8, Workers: 1, Holds: brief,
		Bound: oneValidity.together(), Strike: onMostWaiters(stopped, 5)},
	{Name: "waiters crashed", Text: "five of seven waiters are killed in line", Clients: 8, Workers: 1, Holds: brief,
		Bound: oneValidity.together(), Strike: onMostWaiters(crashed, 5)},
	{Name: "waiters crashed Cluster", Text: "the same in a cluster", Kind: Cluster, Clients: 8, Workers: 1, Holds: brief,
		Bound: oneValidity.together(), Strike: onMostWaiters(crashed, 5)},
	{Name: "cut now and then", Text: "one client's connections are cut, every half second to two", Clients: 4, Workers: 1, Holds: brief,
		Bound: roundTrips.sharing(evenly), Strike: onOne(cutNowAndThen, 5*validity)},
	{Name: "all cut now and then", Text: "everybody's connections are cut, every half second to two", Clients: 4, Workers: 1, Holds: brief,
		Bound: roundTrips.sharing(evenly), Strike: during(cutNowAndThen, 5*validity)},
	{Name: "joined in a stall", Text: "three clients connect by links that stall meanwhile, each at another command", Reserve: 3, Workers: 1, Not: notEtcd,
		Holds: brief, Bound: roundTrips.sharing(evenly), Strike: newcomers},
	{Name: "clock steps 50 ms", Text: "the server's clock steps by that while the queue turns, and back", Config: ownClock, Clients: 8,
		Workers: 1, Holds: brief, Not: notEtcd, Bound: oneValidity.sharing(evenly), Strike: stepping(steppedBy(50 * time.Millisecond))},
	{Name: "clock steps 100 ms", Text: "by 100 ms", Config: ownClock, Clients: 8,
		Workers: 1, Holds: brief, Not: notEtcd, Bound: oneValidity.sharing(evenly), Strike: stepping(steppedBy(100 * time.Millisecond))},
	{Name: "clock steps 1 s", Text: "by a second", Config: ownClock, Clients: 8,
		Workers: 1, Holds: brief, Not: notEtcd, Bound: oneValidity.sharing(evenly), Strike: stepping(steppedBy(time.Second))},
	{Name: "clock steps 1 h", Text: "by an hour", Config: ownClock, Clients: 8,
		Workers: 1, Holds: brief, Not: notEtcd, Bound: oneValidity.sharing(evenly), Strike: stepping(steppedBy(time.Hour))},
	{Name: "clock steps back 1 s", Text: "back by a second, and ahead again", Config: ownClock, Clients: 8,
		Workers: 1, Holds: brief, Not: notEtcd, Bound: oneValidity.sharing(evenly), Strike: stepping(steppedBy(-time.Second))},
	{Name: "both kinds", Text: "four clients of ctxlock and four of valkeylock, which hold the lock for 5 ms", Only: []string{oursLibrary},
		Fleet: bothKinds, Workers: 1, Holds: brief, Bound: oneValidity.sharing(tenth), Also: waitsOfBothKinds, Strike: settled(4 * validity)},
	{Name: "both kinds 20 ms", Text: "the same, for 20 ms", Only: []string{oursLibrary},
		Fleet: bothKinds, Workers: 1, Holds: 20 * time.Millisecond, Bound: oneValidity.sharing(tenth), Also: waitsOfBothKinds, Strike: settled(4 * validity)},
	{Name: "majorities differ", Text: "clients with KeyMajority 1, 2 and 3 on one server", Only: []string{oursLibrary}, Fleet: differing,
		Bound: unbounded, Also: saysMajority, Strike: onAll(nothing, 2*validity)},
	{Name: "majorities differ both kinds", Text: "valkeylock with KeyMajority 1, ctxlock with 1 and 2", Only: []string{oursLibrary},
		Fleet: differingBeside, Bound: unbounded, Also: saysMajority, Strike: onAll(nothing, 2*validity)},
	{Name: "cancelled in hundreds", Text: "beside 600 calls under way and 20 locks held, 20 callers at a time give up after 10 ms; 100 ms a round trip",
		Not: notEtcd, Quiet: true, Validity: 600 * time.Millisecond, Beside: []beside{bustling}, Alone: true, Also: nothingLost,
		Bound:  alike(600*time.Millisecond+looking+busyMachine).lateBy(10*100*time.Millisecond, "a validity of 0.6 s; ten turns, a round trip each"),
		Strike: during(lagging, 3*validity)},
	{Name: "calls of every kind", Text: "on a few names, with deadlines and cancellations: tries, waits, force, From, several names, Extend, Release twice, Look, List",
		Only: []string{oursLibrary}, Beside: []beside{mingling}, Bound: oneValidity, Strike: onAll(nothing, 3*validity)},
	{Name: "force beside claims", Text: "within one process, a try or a wait beside force, at once; hundreds of times", Only: forcers,
		Beside: []beside{racing}, Alone: true, Bound: oneValidity, Strike: onAll(nothing, 2*validity)},
	{Name: "force beside claims slow", Text: "the same, 10 ms a round trip", Only: forcers,
		Beside: []beside{racing}, Alone: true, Bound: oneValidity, Strike: during(distant, 4*validity)},

	{Name: "node stalled", Text: "one of three independent nodes stalls", Kind: Nodes, Bound: oneValidity.inAnyOrder(), Strike: onNode(nodeFrozen)},
	{Name: "node killed", Text: "one of three independent nodes restarts without its data (ctxlock has DelayedRestart on, redsync has nothing of the kind)", Kind: Nodes, Bound: oneValidity.inAnyOrder(), Strike: onNode(nodeKilled)},
	{Name: "node clock", Text: "the clock of one of three independent nodes jumps by an hour, and back", Kind: Nodes, Config: ownClock, Bound: oneValidity.inAnyOrder(), Strike: onHolder(clockAhead)},
	{Name: "majority stalled", Text: "two of three independent nodes stall", Kind: Nodes, Bound: oneValidity.inAnyOrder(), Strike: onHolder(twoFrozen)},
	{Name: "three at once", Text: "three faults at once, drawn by the seed, three times", Bound: oneValidity.plus(2*validity, "three faults, one validity each"), Strike: combined, Not: notEtcd},
	{Name: "three at once again", Text: "the same with other draws", Bound: oneValidity.plus(2*validity, "three faults, one validity each"), Strike: combined, Not: notEtcd},

	{Name: "stopped before writing", Text: "the holder's process is stopped past the validity between looking and writing", Excluded: true, Bound: oneValidity, Strike: stopBeforeWriting},
	{Name: "clock and two more", Text: "the server's clock jumps to and fro, and two other faults strike at once, drawn by the seed, three times", Config: ownClock, Excluded: true, Bound: oneValidity.plus(2*validity, "three faults, one validity each"), Strike: combinedWithClock, Not: notEtcd},
	{Name: "restart empty", Text: "the server is killed and restarted (servers of Redis' kind: without their data)", Excluded: true, Bound: oneValidity, Strike: onHolderFor(killed, validity/4, validity/2)},
	{Name: "restart with old data", Text: "power is lost: the server restarts without the last second (appendfsync everysec)", Excluded: true, Config: logged("everysec"), Bound: oneValidity, Strike: losePower, Not: notEtcd},
	{Name: "FLUSHALL", Text: "FLUSHALL while the lock is held", Excluded: true, Bound: oneValidity, Strike: onHolderFor(flushed, validity, validity*3/2), Not: notEtcd},
	{Name: "eviction", Text: "the server is full and evicts keys (allkeys-random)", Excluded: true, Bound: oneValidity, Strike: onHolderFor(evicting, validity, validity*3/2), Not: notEtcd},
	{Name: "failover Sentinel", Text: "a failover to a replica that has not heard of the lock", Kind: Sentinel, Excluded: true, Bound: oneValidity, Strike: failOverSentinel},
	{Name: "failover Cluster", Text: "the same in a cluster", Kind: Cluster, Excluded: true, Bound: oneValidity, Strike: failOverCluster},
}

// brief is about how long holders hold the lock where a queue shall turn fast.
const brief = 5 * time.Millisecond

// forcers are those with a call that takes the lock by force.
var forcers = []string{oursLibrary, valkeylockLibrary, "rueidislock"}

// notEtcd keeps etcd from what only servers of Redis' kind can suffer.
var notEtcd = []string{etcdLibrary}

// mixedFleet is the libraries of the clients. They share keys.
var mixedFleet = []string{oursLibrary, valkeylockLibrary, oursLibrary}

// nothing is the blow that does nothing.
var nothing = &blow{name: "nothing", do: func(*run, int) (func(), error) { return nil, nil }}

// crashAmongForeignKeys has the holder crash where servers take their time to notice that a key has run out.
func crashAmongForeignKeys(r *run) error {
	if _, err := r.strike(foreignKeys, everyClient); err != nil {
		return err
	}
	return onHolderFor(crashed, 2*validity, 5*validity/2)(r)
}

// stopBeforeWriting stops the holder when it has looked.
func stopBeforeWriting(r *run) error {
	holder, err := r.grip(validity / 2)
	if err != nil {
		return err
	}
	mend, err := r.strike(stoppedLate, holder)
	if err != nil {
		return err
	}
	r.pause(5*validity/2, 3*validity)
	mend()
	r.keepGripping(validity)
	return nil
}
