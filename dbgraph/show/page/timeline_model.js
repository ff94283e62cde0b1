"use strict";
/* The timeline's columns, unpacked, and what is where in them: timeline.py describes the format.
   A block and an arrow are numbers; times are in seconds. */

dbg.timeline_model = (packed) => {
  const { blocks, arrows, words, kinds, unit_s } = packed;
  const size = blocks.kind.length;
  const start = new Float64Array(size);
  const stop = new Float64Array(size);
  const reach = new Float64Array(size); // the latest end of it and those before it on its track
  const track = new Int32Array(size);
  const kind = Uint8Array.from(blocks.kind);
  const critical = flags(size, blocks.critical);
  const tracks = [];

  let index = 0;
  packed.tracks.name.forEach((name, number) => {
    const [group, machine] = [packed.tracks.group[number], packed.tracks.machine[number]];
    const first = index;
    let [now, latest] = [0, 0];
    for (; index < first + packed.tracks.count[number]; index++) {
      start[index] = (now + blocks.gap[index]) * unit_s;
      now += blocks.gap[index] + blocks.length[index];
      stop[index] = now * unit_s;
      reach[index] = latest = Math.max(latest, stop[index]);
      track[index] = number;
    }
    const label = group && name.startsWith(`${group}, `) ? name.slice(group.length + 2) : name;
    tracks.push({ name, label, group, machine, first, after: index });
  });

  const leaves = new Int32Array(size).fill(-1); // the arrow that begins at a block, or ends there
  const comes = new Int32Array(size).fill(-1);
  arrows.source.forEach((block, arrow) => { leaves[block] = arrow; });
  arrows.to.forEach((block, arrow) => { comes[block] = arrow; });

  const wait = kinds.indexOf("wait");
  const model = {
    size, tracks, track, start, stop, kind, kinds, critical, arrows,
    total_s: reach.reduce((most, one) => Math.max(most, one), 0),
    arrow_critical: flags(arrows.source.length, arrows.critical),
    name: (block) => words[blocks.name[block]],
    about: (block) => words[blocks.about[block]],
    bytes: (block) => blocks.bytes[block],

    /** The first block of a track that ends after a moment. */
    from(number, time_s) {
      let { first: low, after: high } = tracks[number];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (reach[middle] > time_s) high = middle;
        else low = middle + 1;
      }
      return low;
    },

    /** The shortest block at a moment, or -1; one that hardly lasts is found a slack away too. */
    at(number, time_s, slack_s) {
      const { after } = tracks[number];
      let found = -1;
      let least = Infinity;
      for (let i = model.from(number, time_s - slack_s); i < after && start[i] <= time_s + slack_s; i++) {
        const length = stop[i] - start[i];
        const slack = length < 2 * slack_s ? slack_s : 0;
        if (length < least && start[i] - slack <= time_s && time_s <= stop[i] + slack) {
          [found, least] = [i, length];
        }
      }
      return found;
    },

    /** The arrow of a block, or -1; a wait has that of what it waits for. */
    arrow(block) {
      if (leaves[block] >= 0) return leaves[block];
      if (comes[block] >= 0 || kind[block] !== wait) return comes[block];
      const after = block + 1;
      return after < tracks[track[block]].after ? comes[after] : -1;
    },

    /** The block at the other end of a block's arrow, or -1. */
    partner(block) {
      const arrow = model.arrow(block);
      if (arrow < 0) return -1;
      return arrows.source[arrow] === block ? arrows.to[arrow] : arrows.source[arrow];
    },

    /** The place of a block's instruction in its machine's program, or -1. */
    instruction: (block) => blocks.instruction[block] - 1,

    /** 1 for each block that is about a layer, of that name. */
    of_layer(name) {
      const hit = words.map((word) => word.split(", ").includes(name));
      return Uint8Array.from(blocks.about, (word) => hit[word]);
    },

    /** 1 for each block whose name, or what it is about, contains a text. */
    matching(text) {
      const hit = words.map((word) => word.toLowerCase().includes(text));
      return Uint8Array.from(blocks.name, (word, i) => hit[word] || hit[blocks.about[i]]);
    },

    /** Names that contain a text, and a block of each. */
    named(text, most) {
      const found = new Map();
      for (let i = 0; i < size && found.size < most; i++) {
        const name = words[blocks.name[i]];
        if (!found.has(name) && name.toLowerCase().includes(text)) found.set(name, i);
      }
      return [...found];
    },
  };
  return model;

  function flags(length, those) {
    const found = new Uint8Array(length);
    for (const one of those) found[one] = 1;
    return found;
  }
};
