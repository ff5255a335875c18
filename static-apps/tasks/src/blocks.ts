/** Pure: a list cut into blocks, so that a browser has a hundred things out of sight to keep an eye on, and not thousands. */
import type { Item } from "./model.ts"

/** Items that follow each other. */
export interface Block {
  key: number
  items: Item[]
}

/** How many items a block takes at the end. */
const FULL = 50

/**
 * Cuts a list into blocks, given the blocks of the list as it was.
 *
 * An item stays in its block while others come and go, because a row that moved to another would be made anew, and an edit in
 * it lost. A block whose items are the same is the same object.
 */
export function cut(items: readonly Item[], before: readonly Block[]): Block[] {
  const homes = new Map<string, Block>()
  for (const block of before) for (const { id } of block.items) homes.set(id, block)
  const ends = new Map<Block | undefined, number>()
  items.forEach(({ id }, index) => ends.set(homes.get(id), index))

  let next = 1 + Math.max(0, ...before.map(({ key }) => key))
  let old: Block | undefined
  const blocks: Block[] = []
  items.forEach((item, index) => {
    const open = blocks.at(-1)
    const home = homes.get(item.id)
    const isInside = old && index <= ends.get(old)!
    const isWelcome = !home && open && open.items.length < FULL
    if (open && (isInside || isWelcome)) return void open.items.push(item)
    old = home
    blocks.push({ key: home?.key ?? next++, items: [item] })
  })

  const known = new Map(before.map(block => [block.key, block]))
  return blocks.map(block => {
    const last = known.get(block.key)
    const isSame = last?.items.length === block.items.length && last.items.every((item, index) => item === block.items[index])
    return isSame ? last : block
  })
}
