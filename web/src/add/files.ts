// Files as they are dropped or chosen, folders with all they hold.

/** A file and its path, which becomes the document's id. */
export interface FoundFile {
  path: string;
  file: File;
}

export interface Found {
  files: FoundFile[];
  /** Hidden files and folders, which are left out. */
  hidden: number;
  /** Paths that the browser could not read. */
  unreadable: string[];
}

/** What a drop brings. It must be called within the event: the list is empty afterwards. */
export function dropped(items: DataTransferItemList): Promise<Found> {
  const entries: FileSystemEntry[] = [];
  // What another page or program made has no entry of a file system.
  const loose: File[] = [];
  for (const item of items) {
    if (item.kind !== "file") continue;
    const entry = item.webkitGetAsEntry();
    const file = entry ? null : item.getAsFile();
    if (entry) entries.push(entry);
    else if (file) loose.push(file);
  }
  return walk(entries, chosen(loose));
}

/** What a file field holds; of a folder the path within it is known. */
export function chosen(list: Iterable<File>): Found {
  const found: Found = { files: [], hidden: 0, unreadable: [] };
  for (const file of list) {
    const path = file.webkitRelativePath || file.name;
    if (isHidden(path)) found.hidden += 1;
    else found.files.push({ path, file });
  }
  return found;
}

async function walk(entries: FileSystemEntry[], found: Found): Promise<Found> {
  const waiting = [...entries];
  for (let entry = waiting.pop(); entry; entry = waiting.pop()) {
    const path = entry.fullPath.replace(/^\//, "");
    if (isHidden(path)) {
      found.hidden += 1;
      continue;
    }
    try {
      if (isFolder(entry)) waiting.push(...(await children(entry)));
      else if (isFile(entry)) found.files.push({ path, file: await fileOf(entry) });
    } catch {
      found.unreadable.push(path);
    }
  }
  found.files.sort((a, b) => (a.path < b.path ? -1 : 1));
  return found;
}

const isHidden = (path: string) => path.split("/").some((part) => part.startsWith("."));
const isFolder = (entry: FileSystemEntry): entry is FileSystemDirectoryEntry => entry.isDirectory;
const isFile = (entry: FileSystemEntry): entry is FileSystemFileEntry => entry.isFile;
const fileOf = (entry: FileSystemFileEntry) => new Promise<File>((resolve, reject) => entry.file(resolve, reject));

// A reader gives a folder's entries in parts; an empty one is the last.
async function children(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (part.length === 0) return all;
    all.push(...part);
  }
}
